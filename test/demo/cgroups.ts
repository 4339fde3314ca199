/** Cgroups: a memory limit, a program that wants more, and what the kernel does about it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Long from "long";
import { parseHierarchies, unifiedControllers } from "../../sandbox/cgroup/hierarchies.js";
import { ContainerState, containerStatus } from "../support/workload.js";
import { plot, type Sample } from "./plot.js";
import { createContainer, type DemoContainer, infoOf, removePods, shortId, startContainer, startPod } from "./pods.js";
import { mebibytes } from "./screen.js";
import type { Demo } from "./setup.js";

const limitMiB = 100;
const limitBytes = limitMiB * 1024 * 1024;
/** It is PID 1 itself, so that its death is the container's. */
const program = 'BEGIN { while (n < 20) { kept[n++] = sprintf("%10485760s", "x"); system("usleep 100000") } }';
const samplePauseMs = 20;
const patienceMs = 20_000;

export async function showCgroups(demo: Demo): Promise<void> {
  const { agent, screen } = demo;
  screen.title(
    "Cgroups",
    "A cgroup is a directory of the kernel's. It counts what the processes in it use, and each limit is a file in it. " +
      `This container may have ${limitMiB} MiB of memory. Its program asks for 200: twenty strings of 10 MiB, one each ` +
      "tenth of a second.",
  );
  const pod = await startPod(demo, "limited");
  const eater = await createContainer(demo, pod, "eater", {
    command: ["awk", program],
    resources: { memory_limit_in_bytes: Long.fromNumber(limitBytes) },
  });
  const directory = join(memoryMount(), (await infoOf(demo, eater)).cgroupPath);
  const files = memoryFiles(directory);
  const limit = read(files.limit);
  screen.say(
    files.limit.endsWith("memory.max")
      ? "This host has cgroup v2: one tree of directories for all controllers. memory.max is the limit, memory.current the use."
      : "This host has cgroup v1: a tree of directories for each controller, here that of memory.",
  );
  screen.values([["the limit", `${limit} bytes`, files.limit]]);
  screen.check(`the kernel's limit is ${limitMiB} MiB`, limit === String(limitBytes));

  await startContainer(demo, eater);
  const samples = await sampleUntilEnd(demo, eater, files.usage);
  screen.say("The memory of the cgroup, from the start of the container to its end:");
  screen.lines(plot(samples, { limit: limitBytes, columns: 70, rows: 10, format: (bytes) => mebibytes(bytes, 0) }));
  const most = Math.max(...samples.map(({ value }) => value));
  screen.values([["most seen", `${mebibytes(most)} in ${samples.length} samples`, files.usage]]);
  screen.check(
    "it climbed in steps",
    new Set(samples.map(({ value }) => Math.floor(value / (limitBytes / 10)))).size >= 6,
  );
  screen.check("it came near the limit and never passed it", most > 0.85 * limitBytes && most <= limitBytes);

  screen.say(
    "When the cgroup is full and nothing in it can be given back, the kernel kills a process of this cgroup with " +
      "SIGKILL, and no other. 137 is 128 and the signal's number, 9. The reason comes from the cgroup's own counter of " +
      "such kills.",
  );
  const status = await containerStatus(agent, eater.id);
  const { state } = (await agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id })).status ?? {};
  screen.crictl(`inspect ${shortId(eater)}`);
  screen.values([
    ["reason", status.reason ?? "", "ContainerStatus: status.reason"],
    ["exit code", String(status.exit_code), "ContainerStatus: status.exit_code"],
    ["the pod", state === 0 ? "ready" : "not ready", "PodSandboxStatus: status.state"],
  ]);
  screen.check("the container ended as OOMKilled", status.reason === "OOMKilled");
  screen.check("with exit code 137", status.exit_code === 137);
  screen.check("its cgroup is gone, and the pod is still ready", (await gone(directory)) && state === 0);
  await removePods(demo, [pod]);
}

/** Where the memory controller is: a hierarchy of its own (cgroup v1), or the one for all (v2). */
function memoryMount(): string {
  const hierarchies = parseHierarchies(readFileSync("/proc/self/mountinfo", "utf8"), unifiedControllers);
  const mount = hierarchies.find(({ controllers }) => controllers.includes("memory"))?.mountPoint;
  if (mount === undefined)
    throw new Error("this kernel has no memory controller: add cgroup_enable=memory to its command line");
  return mount;
}

/** cgroup v2's names where they are there, else v1's. */
export function memoryFiles(directory: string): { usage: string; limit: string } {
  const v2 = existsSync(join(directory, "memory.current"));
  return {
    usage: join(directory, v2 ? "memory.current" : "memory.usage_in_bytes"),
    limit: join(directory, v2 ? "memory.max" : "memory.limit_in_bytes"),
  };
}

export function memoryDirectory(cgroupPath: string): string {
  return join(memoryMount(), cgroupPath);
}

async function sampleUntilEnd({ agent }: Demo, { id }: DemoContainer, file: string): Promise<Sample[]> {
  const samples: Sample[] = [];
  const begun = performance.now();
  for (let seconds = 0; seconds * 1000 < patienceMs; await sleep(samplePauseMs)) {
    seconds = (performance.now() - begun) / 1000;
    const text = readIfThere(file);
    if (text !== undefined) samples.push({ seconds, value: Number(text) });
    if ((await containerStatus(agent, id)).state === ContainerState.CONTAINER_EXITED) return samples;
  }
  throw new Error(`the container still runs after ${patienceMs / 1000} s`);
}

/** The agent removes it a moment after the container's end. */
async function gone(directory: string): Promise<boolean> {
  for (let tries = 0; existsSync(directory) && tries < 100; tries++) await sleep(10);
  return !existsSync(directory);
}

function read(file: string): string {
  return readFileSync(file, "utf8").trim();
}

/** The file goes with the container. */
function readIfThere(file: string): string | undefined {
  try {
    return read(file);
  } catch {
    return undefined;
  }
}
