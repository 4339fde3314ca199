/** `npm run bench -- stats`: what statistics cost, with 50 containers and with 500 (`stats 50` takes one number only). */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestAgent } from "../support/agent.js";
import { type Figure, median, timed } from "./figures.js";
import { pssMiB } from "./machine.js";
import { type BenchPod, type BenchTarget, podDown, podUp } from "./pods.js";

const rounds = 25;
/** Longer than a pass is fresh: every call reads. */
const pauseMs = 150;

/** In milliseconds and MiB, by the number of containers. */
const targets = new Map([
  ["ListContainerStats, 50 containers", 5],
  ["ListContainerStats, 500 containers", 60],
  ["its CPU, 500 containers", 50],
]);

export async function measureStatistics(
  agent: TestAgent,
  target: BenchTarget,
  counts: readonly number[],
): Promise<Figure[]> {
  const figures: Figure[] = [];
  const report = (name: string, value: number, unit = "ms") => {
    const goal = targets.get(name);
    figures.push({ name, value, unit, ...(goal !== undefined && { target: goal }) });
  };
  const pods: BenchPod[] = [];
  try {
    for (const count of counts) {
      const before = pssMiB(agent.pid);
      while (pods.length < count) pods.push(await podUp(target));
      const up = pssMiB(agent.pid);
      const of = `${count} containers`;
      await measureCall(agent, `ListContainerStats, ${of}`, `its CPU, ${of}`, report, () =>
        target.client.call("ListContainerStats", {}),
      );
      await measureCall(agent, `a scrape, ${of}`, `the agent's CPU of it, ${of}`, report, async () => {
        await (await fetch(agent.metricsUrl)).text();
      });
      report(`the agent before, with ${of}`, before, "MiB");
      report(`the agent with them, ${of}`, up, "MiB");
      report(`and after these calls, ${of}`, pssMiB(agent.pid), "MiB");
    }
  } finally {
    for (const pod of pods) await podDown(target, pod);
  }
  return figures;
}

async function measureCall(
  agent: TestAgent,
  name: string,
  cpuName: string,
  report: (name: string, value: number) => void,
  call: () => Promise<unknown>,
): Promise<void> {
  await call();
  const times: number[] = [];
  const before = cpuMs(agent.pid);
  for (let round = 0; round < rounds; round++) {
    await sleep(pauseMs);
    times.push(await timed(call));
  }
  report(name, median(times));
  report(cpuName, (cpuMs(agent.pid) - before) / rounds);
}

/** User and system time of a process, its threads included (10 ms steps). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
