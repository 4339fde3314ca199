/** Which programs some processes, and all that come of them, execute: told by the kernel's trace events. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What this kernel lacks for it, or undefined. */
export function whatExecutionsLack(): string | undefined {
  const has = readFileSync("/proc/filesystems", "utf8").includes("tracefs") && process.getuid?.() === 0;
  return has ? undefined : "the kernel's trace events are not to be had";
}

/** The paths that are executed while `work` runs, in their order, as they were given to the kernel. */
export async function executionsDuring(pids: readonly number[], work: () => Promise<void>): Promise<string[]> {
  const tracefs = mkdtempSync(join(tmpdir(), "berth-trace-"));
  run("mount", "-t", "tracefs", "tracefs", tracefs);
  // an own instance: nobody else's events, settings or buffer
  const instance = join(tracefs, "instances", `berth-test-${process.pid}`);
  try {
    mkdirSync(instance);
    const set = (file: string, value: string) => writeFileSync(join(instance, file), value);
    set("options/event-fork", "1");
    set("set_event_pid", pids.flatMap((pid) => readdirSync(`/proc/${pid}/task`)).join(" "));
    set("events/sched/sched_process_exec/enable", "1");
    await work();
    set("events/sched/sched_process_exec/enable", "0");
    const trace = readFileSync(join(instance, "trace"), "utf8");
    return [...trace.matchAll(/sched_process_exec: filename=(.*) pid=\d+ old_pid=\d+$/gm)].map(([, path = ""]) => path);
  } finally {
    rmdirSync(instance);
    run("umount", tracefs);
    rmdirSync(tracefs);
  }
}

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}
