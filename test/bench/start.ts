/**
 * `npm run bench -- start`: how long the command and the agent take to start, and lists of many pods (500, or as many as are
 * named). With `--load`, too: the agent's memory ten minutes after 40,000 calls.
 */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import type { TestAgent } from "../support/agent.js";
import { type Figure, median, timed } from "./figures.js";
import { pssMiB } from "./machine.js";
import { type BenchPod, type BenchTarget, execTrue, podDown, podUp } from "./pods.js";

const program = process.env["BERTH_TEST_PROGRAM"] ?? fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
const starts = 15;
const lists = 500;
const loadCalls = 40_000;
const settlingMs = 600_000;

export async function measureStart(
  agent: TestAgent,
  target: () => BenchTarget,
  { pods: count, load }: { pods: number; load: boolean },
): Promise<Figure[]> {
  const figures: Figure[] = [];
  const report = (name: string, value: number, unit: string, goal?: number) =>
    figures.push({ name, value, unit, ...(goal !== undefined && { target: goal }) });

  report("node itself starts", median(repeated(() => run(["-e", "0"]))), "ms");
  for (const line of [["version"], ["pods"], ["ps"], ["--help"]]) {
    const times = repeated(() => run([program, ...line], { BERTH_SOCKET: agent.socket }));
    report(`berth ${line.join(" ")}`, median(times), "ms", 150);
  }
  report("the agent serves, no pods", await restarts(agent), "ms", 400);
  const pods: BenchPod[] = [];
  try {
    while (pods.length < count) pods.push(await podUp(target()));
    report(`the agent serves, ${count} pods`, await restarts(agent), "ms", 1500);
    for (const name of ["ListPodSandbox", "ListContainers"] as const) {
      const times = await listTimes(agent.socket, name);
      times.sort((a, b) => a - b);
      report(`${name}, ${count} pods`, median(times), "ms");
      report(`${name}, ${count} pods, p99`, times[Math.floor(lists * 0.99)] ?? Number.NaN, "ms", 5);
    }
    if (load) await underLoad(agent, target(), pods[0] ?? (await podUp(target())), report);
  } finally {
    for (const pod of pods) await podDown(target(), pod);
  }
  return figures;
}

async function underLoad(
  agent: TestAgent,
  target: BenchTarget,
  pod: BenchPod,
  report: (name: string, value: number, unit: string, goal?: number) => void,
): Promise<void> {
  let left = loadCalls;
  const caller = async () => {
    while (left-- > 0) {
      if (left % 2 === 0) await execTrue(target, pod);
      else await agent.client.call("ListContainers", {});
    }
  };
  await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(caller));
  report(`the agent (PSS) after ${loadCalls} calls`, pssMiB(agent.pid), "MiB");
  await sleep(settlingMs);
  report("ten minutes later", pssMiB(agent.pid), "MiB", 70);
}

/**
 * In milliseconds, to the last byte of each answer. Nothing is made of it: the objects of 500 pods let this process, whose
 * garbage they are, wait longer for its collector than for the agent.
 */
async function listTimes(socket: string, name: "ListPodSandbox" | "ListContainers"): Promise<number[]> {
  const client = new grpc.Client(socket, grpc.credentials.createInsecure());
  const path = `/runtime.v1.RuntimeService/${name}`;
  const list = () =>
    new Promise<Buffer>((resolve, reject) => {
      const asIs = (bytes: Buffer) => bytes;
      client.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(0), (error, answer) => {
        if (error !== null || answer === undefined) reject(error);
        else resolve(answer);
      });
    });
  const times: number[] = [];
  for (let i = 0; i < lists; i++) times.push(await timed(list));
  client.close();
  return times;
}

/** From the program's start to the answer of Version. */
async function restarts(agent: TestAgent): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < starts / 3; i++) {
    await agent.terminate();
    times.push(await timed(() => agent.restart()));
  }
  return median(times);
}

function repeated(once: () => void): number[] {
  return Array.from({ length: starts }, () => {
    const begun = performance.now();
    once();
    return performance.now() - begun;
  });
}

function run(args: readonly string[], env: Record<string, string> = {}): void {
  execFileSync(process.execPath, args, { stdio: "ignore", env: { ...process.env, ...env } });
}
