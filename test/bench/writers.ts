/** What containers that write, and callers that exec, get when there are many of them, and what a log costs. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { TestAgent } from "../support/agent.js";
import { containerStatus, importBusybox, removePod, runContainer, runPod, sh } from "../support/workload.js";
import { type Figure, median, timed } from "./figures.js";
import { cpuMs, processesWith } from "./machine.js";

const writers = 50;
const writingMs = 1_500;
const callers = 8;
const execs = 800;

/** Fifty containers of one pod, with one thread for all their logs, begin to write together. */
export async function measureFairness(agent: TestAgent): Promise<Figure[]> {
  await importBusybox(agent);
  const gate = join(agent.paths.base, "gate");
  mkdirSync(gate);
  const pod = await runPod(agent);
  const mounts = [{ host_path: gate, container_path: "/gate", readonly: true }];
  const script = `until [ -e /gate/go ]; do usleep 20000; done; yes ${"x".repeat(99)}`;
  const paths: string[] = [];
  for (let index = 0; index < writers; index++) {
    const id = await runContainer(agent, pod, { ...sh(script), mounts });
    paths.push((await containerStatus(agent, id)).log_path ?? "");
  }
  writeFileSync(join(gate, "go"), "");
  await sleep(writingMs);
  const sizes = paths.map((path) => statSync(path).size);
  await removePod(agent, pod);
  for (const path of paths) rmSync(path, { force: true });
  const sum = sizes.reduce((all, size) => all + size, 0);
  const mean = sum / writers;
  return [
    { name: `${writers} containers writing, together`, unit: "MB/s", value: sum / 1000 / writingMs },
    { name: "  the least that one got, of an equal share", unit: "%", value: (100 * Math.min(...sizes)) / mean },
    { name: "  the most", unit: "%", value: (100 * Math.max(...sizes)) / mean },
  ];
}

const logBytes = 600_000_000;
const logRounds = 5;

/**
 * Processor time of the monitor while a container writes lines of 100 bytes, and of a small C program (stamp-lines.c) that
 * does only what the log's format asks for, with the same lines from a pipe to a file of the same file system; by turns.
 */
export async function measureLogCpu(agent: TestAgent): Promise<Figure[]> {
  await importBusybox(agent);
  const stamp = join(agent.paths.base, "stamp-lines");
  const source = fileURLToPath(new URL("../../../test/bench/stamp-lines.c", import.meta.url));
  execFileSync("cc", ["-O2", "-o", stamp, source]);
  const lines = `yes ${"x".repeat(99)} | head -c ${logBytes}`;
  const pod = await runPod(agent);
  const monitor = processesWith(`${agent.paths.run}/pods/${pod.id}`)[0] ?? 0;
  const [ours, floor]: [number[], number[]] = [[], []];
  for (let round = 0; round < logRounds; round++) {
    const before = cpuMs(monitor);
    const id = await runContainer(agent, pod, sh(lines));
    while ((await containerStatus(agent, id)).state !== 2) await sleep(20);
    ours.push(cpuMs(monitor) - before);
    rmSync((await containerStatus(agent, id)).log_path ?? "", { force: true });
    // bash's "times": a line for itself, and one for what it has waited for
    const told = execFileSync("bash", ["-c", `busybox ${lines} | ( ${stamp} > ${stamp}.log; times )`], {
      encoding: "utf8",
    });
    floor.push(childrenMs(told));
    rmSync(`${stamp}.log`);
  }
  await removePod(agent, pod);
  const [mean, least] = [median(ours), median(floor)];
  return [
    { name: "600 MB in lines to a log, CPU of the monitor", unit: "ms", value: mean },
    { name: "  the same lines stamped by a C program", unit: "ms", value: least },
    { name: "  the quotient", unit: "", value: mean / least, target: 1.2 },
  ];
}

/** Of "0m0.001s 0m0.002s" in the second line: user and system. */
function childrenMs(times: string): number {
  const found = [...(times.split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
  return found.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60_000 + Number(seconds) * 1000, 0);
}

export async function measureExecTimes(agent: TestAgent): Promise<Figure[]> {
  await importBusybox(agent);
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod);
  const exec = () => agent.client.call("ExecSync", { container_id: id, cmd: ["true"] });
  const times: number[] = [];
  let left = execs;
  const caller = async () => {
    while (left-- > 0) times.push(await timed(exec));
  };
  await caller();
  const alone = percentile(times, 50);
  [left, times.length] = [execs, 0];
  await Promise.all(Array.from({ length: callers }, caller));
  await removePod(agent, pod);
  return [
    { name: "ExecSync true, p50 alone", unit: "ms", value: alone, target: 3 },
    { name: `ExecSync true, p50 at ${callers} callers`, unit: "ms", value: percentile(times, 50) },
    { name: `ExecSync true, p99 at ${callers} callers`, unit: "ms", value: percentile(times, 99), target: 15 },
  ];
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
}
