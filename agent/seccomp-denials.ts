/** Whose system call seccomp has refused, as the kernel's audit records it: a killed program, and what a profile wants logged. */
import { readFileSync } from "node:fs";
import { native } from "../native/binding.js";
import type { Container } from "../sandbox/container.js";
import { messageOf } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Happening } from "../sandbox/observer.js";
import type { Log } from "./log.js";

interface Denied {
  pid: number;
  what: Omit<Extract<Happening, { type: "seccomp-denied" }>, "type" | "podId" | "containerId">;
}

/** A program that is refused in a loop is told of now and then: after so many there is a pause. */
const mostInRow = 16;
const pauseMs = 1_000;
/** By then a start has been answered: the first program of a container may be killed before. */
const answeredMs = 500;
/** What prepares a container, until the program that it is for takes its place. */
const ownProgram = "berth-monitor";

/** From now on. A kernel without audit, or an agent that may not read it, tells nothing. */
export function tellDenials({ containers, observer }: Pick<SandboxNode, "containers" | "observer">, log: Log): void {
  /** False: whose process it was is not known, or not yet. */
  const tell = ({ pid, what }: Denied): boolean => {
    const container = containerOf(pid, containers);
    if (container === undefined) return false;
    const { id: containerId, podId } = container.record;
    observer.emit({ type: "seccomp-denied", podId, containerId, ...what });
    return true;
  };
  let inRow = 0;
  try {
    const watch = native.watchSeccompDenials((records) => {
      for (const record of records) {
        const denial = readDenial(record);
        if (denial === null || denial.what.program === ownProgram || tell(denial)) continue;
        setTimeout(() => tell(denial), answeredMs).unref();
      }
      inRow += records.length;
      if (inRow < mostInRow) return watch.resume();
      inRow = 0;
      setTimeout(() => watch.resume(), pauseMs).unref();
    });
  } catch (error) {
    log.info(`denials by seccomp are not told: ${messageOf(error)}`);
  }
}

/** `audit(1795736350.400:788): ... pid=30724 comm="python3" ... sig=31 arch=c000003e syscall=39 ... code=0x80000000` */
export function readDenial(record: string): Denied | null {
  const fields = new Map(record.split(" ").map((field) => field.split("=", 2) as [string, string]));
  const number = (name: string, base: number) => Number.parseInt(fields.get(name) ?? "", base);
  const architecture = number("arch", 16);
  const call = number("syscall", 10);
  const pid = number("pid", 10);
  if ([architecture, call, pid].some(Number.isNaN)) return null;
  return {
    pid,
    what: {
      program: programOf(fields.get("comm") ?? ""),
      call: native.syscallName({ architecture, number: call }),
      outcome:
        fields.get("sig") !== "0" ? "killed" : (number("code", 16) & actionMask) === logAction ? "logged" : "refused",
    },
  };
}

const actionMask = 0x7fff0000;
const logAction = 0x7ffc0000;

/** In quotes, or, when its characters might mislead, in hexadecimal digits. */
function programOf(comm: string): string {
  if (comm.startsWith('"')) return comm.slice(1, -1);
  return Buffer.from(comm, "hex")
    .toString()
    .replace(/[^\x20-\x7e]/g, "?");
}

/** By the process's cgroup, while it is there, or as the container's first one. */
function containerOf(pid: number, containers: SandboxNode["containers"]): Container | undefined {
  try {
    for (const part of readFileSync(`/proc/${pid}/cgroup`, "utf8").split(/[\n/]/)) {
      const container = /^[0-9a-f]{64}$/.test(part) ? containers.find(part) : undefined;
      if (container !== undefined) return container;
    }
  } catch {
    // it has ended
  }
  return containers.list().find((container) => container.startedPid === pid && !hasEndedLongAgo(container));
}

/** Its number may be another process's by now. */
function hasEndedLongAgo({ record }: Container): boolean {
  return record.phase === "exited" && Date.now() - Number(record.finishedAt) / 1e6 > 10_000;
}
