/** `npm run bench -- stats`: what statistics cost, with 50 containers and with 500 (`stats 50` takes one number only). */
import { readFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import type { TestAgent } from "../support/agent.js";
import { type Figure, median, timed } from "./figures.js";
import { pssMiB } from "./machine.js";
import { type BenchPod, type BenchTarget, podDown, podUp } from "./pods.js";

const rounds = 25;
/** Longer than a pass is fresh: every call reads. */
const pauseMs = 150;

/** In milliseconds, KiB and percent of a core. */
const targets = new Map([
  ["ListContainerStats, 50 containers", 5],
  ["ListContainerStats, 500 containers", 60],
  ["its CPU, 500 containers", 50],
  ["a scrape, 500 containers", 150],
  ["an exec's longest wait for it, 500 containers", 5],
  ["of a core, at a scrape every 15 s, 500 containers", 1],
  ["the agent's growth for each, 500 containers", 60],
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
      const made = count - pods.length;
      while (pods.length < count) pods.push(await podUp(target, undefined, `${agent.cgroupRoot}/pods`));
      const up = pssMiB(agent.pid);
      const of = `${count} containers`;
      await measureCall(agent, `ListContainerStats, ${of}`, `its CPU, ${of}`, report, () =>
        target.client.call("ListContainerStats", {}),
      );
      const scrapeCpu = await measureCall(
        agent,
        `a scrape, ${of}`,
        `the agent's CPU of it, ${of}`,
        report,
        async () => {
          await scrape(agent.metricsUrl);
        },
      );
      report(`of a core, at a scrape every 15 s, ${of}`, scrapeCpu / 150, "%");
      report(`an exec's longest wait for it, ${of}`, await longestWaitMs(agent.metricsUrl));
      report(`the agent before, with ${of}`, before, "MiB");
      report(`the agent with them, ${of}`, up, "MiB");
      report(`the agent's growth for each, ${of}`, ((up - before) * 1024) / made, "KiB");
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
): Promise<number> {
  await call();
  const times: number[] = [];
  const before = cpuMs(agent.pid);
  for (let round = 0; round < rounds; round++) {
    await sleep(pauseMs);
    times.push(await timed(call));
  }
  report(name, median(times));
  const spent = (cpuMs(agent.pid) - before) / rounds;
  report(cpuName, spent);
  return spent;
}

/** Compressed, as Prometheus asks for it. What the reader does with it is no time of the agent's. */
async function scrape(url: string): Promise<Buffer> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent: false, headers: { "accept-encoding": "gzip" } }, resolve).on("error", reject);
  });
  return Buffer.concat(await answer.toArray());
}

/** The timer that the agent looks at its own event loop with. */
const lagTimerMs = 10;

/** For how long the agent's event loop was kept at most while it was scraped: the median of some scrapes. */
async function longestWaitMs(url: string): Promise<number> {
  const longest: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const text = gunzipSync(await scrape(url)).toString();
    // of the time since the answer before
    const lag = /^berth_event_loop_lag_seconds\{quantile="1"\} (\S+)$/m.exec(text)?.[1];
    if (round > 0) longest.push(Math.max(0, Number(lag) * 1000 - lagTimerMs));
  }
  return median(longest);
}

/** User and system time of a process, its threads included (10 ms steps). */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
