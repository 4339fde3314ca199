/**
 * `npm run bench`: Berth's figures beside the design's targets, and beside Debian's containerd with --with-containerd.
 * `npm run bench -- stats` takes those of statistics alone, `npm run bench -- network` those of the pod network (or of its
 * parts `attach`, `traffic`, `cni`, when they are named; a number: how many other pods), `npm run bench -- streams` those of
 * exec, attach and port-forward, `npm run bench -- stream-leaks` what many of them leave behind, `npm run bench -- image` those of
 * pulls, `npm run bench -- start` how long the command and the agent take to start. Only prints: what is too slow is not an error, since machines differ.
 */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { startAgent } from "../support/agent.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";
import { startContainerd } from "./containerd.js";
import { type Figure, printFigures } from "./figures.js";
import { pushBenchImages } from "./images.js";
import { processesWith, pssMiB } from "./machine.js";
import {
  measureExecs,
  measureFiftyPods,
  measureLog,
  measureManyPods,
  measurePods,
  measurePull,
  type Report,
} from "./measure.js";
import { loadAverage, measureNetwork } from "./network.js";
import type { BenchTarget } from "./pods.js";
import { measureOwnPulls, measurePulls, pushPullImages, removePullImages } from "./pulls.js";
import { measureStart } from "./start.js";
import { measureStatistics } from "./stats.js";
import { measureStreamLeaks } from "./stream-leaks.js";
import { measureStreams } from "./streams.js";

const agentMemory = "agent (PSS, 50 pods, a minute after this load)";
/** the agent gives back every minute what it does not use */
const settlingMs = 65_000;

const targets: Record<string, Omit<Figure, "name" | "value">> = {
  "pod up": { unit: "ms", target: 10 },
  "  RunPodSandbox": { unit: "ms", target: 5 },
  "  CreateContainer and StartContainer": { unit: "ms", target: 6 },
  "pod up after quiet": { unit: "ms", target: 10 },
  "pod down": { unit: "ms", target: 8 },
  "ExecSync true": { unit: "ms", target: 3 },
  "ExecSync true after quiet": { unit: "ms", target: 3 },
  "execs a second, 8 callers": { unit: "/s", target: 700, atLeast: true },
  "CPU per exec, whole machine": { unit: "ms", target: 2.5 },
  "20 pods at once, all running": { unit: "ms", target: 200 },
  "ListContainerStats, 50 containers": { unit: "ms", target: 5 },
  "memory a pod adds (PSS, 50 pods)": { unit: "MiB", target: 0.2 },
  [agentMemory]: { unit: "MiB", target: 70 },
  "pull and unpack, 6 layers, 6,000 files": { unit: "s", target: 0.5 },
  "a container's output to its CRI log": { unit: "MB/s", target: 600, atLeast: true },
};

async function measure(
  target: BenchTarget,
  manyFiles: string,
  report: Report,
  whileFiftyUp: () => Promise<void>,
): Promise<void> {
  await target.client.call("PullImage", { image: { image: target.image } });
  await measurePods(target, report);
  await measureExecs(target, report);
  await measureManyPods(target, report);
  await measureFiftyPods(target, report, whileFiftyUp);
  await measureLog(target, report);
  await measurePull(target, manyFiles, report);
}

/** For more pods than a test's own subnet has addresses: of a range that nobody else here takes. */
const wideSubnet = "10.200.0.0/16";

async function benchStatistics(registry: TestRegistry, counts: readonly number[]): Promise<void> {
  const { busybox: image } = await pushBenchImages(registry);
  const agent = await startAgent({ flags: { "log-level": "info", subnet: wideSubnet } });
  try {
    await agent.client.call("PullImage", { image: { image } });
    const target = { client: agent.client, image, logs: agent.paths.logs };
    printFigures(await measureStatistics(agent, target, counts), new Map(), "");
  } finally {
    await agent.stop();
  }
}

async function benchStart(registry: TestRegistry, pods: number): Promise<void> {
  const { busybox: image } = await pushBenchImages(registry);
  const agent = await startAgent({ flags: { "log-level": "info", subnet: wideSubnet } });
  try {
    await agent.client.call("PullImage", { image: { image } });
    // the client is another one after each start
    const target = () => ({ client: agent.client, image, logs: agent.paths.logs });
    console.log(`load average ${loadAverage()}`);
    printFigures(await measureStart(agent, target, { pods, load: process.argv.includes("--load") }), new Map(), "");
  } finally {
    await agent.stop();
  }
}

async function benchPulls(registry: TestRegistry): Promise<void> {
  const images = await pushPullImages(registry);
  try {
    const theirs = new Map<string, number>();
    if (withContainerd()) {
      const containerd = await startContainerd(registry);
      try {
        await measurePulls(containerd.client, images, (name, value) => void theirs.set(name, value));
      } finally {
        await containerd.stop();
      }
    }
    const agent = await startAgent({ flags: { "log-level": "info" } });
    try {
      console.log(`load average ${loadAverage()}`);
      printFigures(await measureOwnPulls(agent, images), theirs, "Debian's containerd");
    } finally {
      await agent.stop();
    }
  } finally {
    removePullImages(images);
  }
}

/** Whether it is to be measured beside; then it is installed. */
function withContainerd(): boolean {
  if (!process.argv.includes("--with-containerd")) return false;
  execFileSync(process.execPath, ["test/support/prepare.mjs", "bench", "--with-containerd"], { stdio: "inherit" });
  return true;
}

async function benchAll(registry: TestRegistry): Promise<void> {
  const images = await pushBenchImages(registry);
  const theirs = new Map<string, number>();
  if (withContainerd()) {
    const containerd = await startContainerd(registry);
    try {
      const target = { client: containerd.client, image: images.busybox, logs: containerd.logs };
      await measure(
        target,
        images.manyFiles,
        (name, value) => theirs.set(name, value),
        async () => {
          theirs.set("memory a pod adds (PSS, 50 pods)", containerd.shimPssMiB() / 50);
        },
      );
    } finally {
      await containerd.stop();
    }
  }
  const agent = await startAgent({ flags: { "log-level": "info" } });
  const ours: Figure[] = [];
  const report: Report = (name, value) => void ours.push({ name, value, ...(targets[name] ?? { unit: "" }) });
  try {
    const target = { client: agent.client, image: images.busybox, logs: agent.paths.logs };
    await measure(target, images.manyFiles, report, async () => {
      const monitors = processesWith(`${agent.paths.run}/pods/`);
      report("memory a pod adds (PSS, 50 pods)", monitors.reduce((sum, pid) => sum + pssMiB(pid), 0) / monitors.length);
      await sleep(settlingMs);
      report(agentMemory, pssMiB(agent.pid));
    });
  } finally {
    await agent.stop();
  }
  printFigures(ours, theirs, "Debian's containerd");
}

const [what, ...counts] = process.argv.slice(2).filter((word) => !word.startsWith("--"));
if (what === "network") {
  console.log(`load average ${loadAverage()}`);
  const manyPods = counts.find((word) => /^\d+$/.test(word)) ?? "1000";
  const parts = counts.filter((word) => word !== manyPods);
  printFigures(await measureNetwork(Number(manyPods), parts), new Map(), "");
  process.exit(0);
}
if (what === "streams" || what === "stream-leaks") {
  console.log(`load average ${loadAverage()}`);
  const agent = await startAgent({ flags: { "log-level": "info" } });
  try {
    if (what === "stream-leaks") {
      await measureStreamLeaks(agent, Number(counts[0] ?? 10_000));
    } else {
      const { ours, socat } = await measureStreams(agent);
      printFigures(ours, socat, "socat");
    }
  } finally {
    await agent.stop();
  }
  process.exit(0);
}
const registry = await startRegistry();
try {
  if (what === "stats") await benchStatistics(registry, counts.length > 0 ? counts.map(Number) : [50, 500]);
  else if (what === "start") await benchStart(registry, Number(counts[0] ?? 500));
  else if (what === "image") await benchPulls(registry);
  else await benchAll(registry);
} finally {
  await registry.stop();
}
