/** What containers that write, and callers that exec, get when there are many of them. */
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestAgent } from "../support/agent.js";
import { containerStatus, importBusybox, removePod, runContainer, runPod, sh } from "../support/workload.js";
import { type Figure, timed } from "./figures.js";

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
