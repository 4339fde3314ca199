/** Every figure that can be taken over the CRI alone, so that Berth and another runtime are measured the same way. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { median, timed } from "./figures.js";
import { busyMs } from "./machine.js";
import { type BenchPod, type BenchTarget, execTrue, podDown, podUp, untilExited } from "./pods.js";

const rounds = 30;
const quietRounds = 6;
/** Real probes come every 1–10 s, and the first call after quiet is dearer. */
const quietMs = 2_000;

export type Report = (name: string, value: number) => void;

export async function measurePods(target: BenchTarget, report: Report): Promise<void> {
  const pods: BenchPod[] = [];
  const downs: number[] = [];
  const up = ({ sandboxMs, containerMs }: BenchPod) => sandboxMs + containerMs;
  const round = async (): Promise<void> => {
    const pod = await podUp(target);
    pods.push(pod);
    downs.push(await timed(() => podDown(target, pod)));
  };
  // a node has others, too: what all pods share is there
  const other = await podUp(target);
  await round();
  pods.length = downs.length = 0;
  for (let i = 0; i < rounds; i++) await round();
  report("pod up", median(pods.map(up)));
  report("  RunPodSandbox", median(pods.map(({ sandboxMs }) => sandboxMs)));
  report("  CreateContainer and StartContainer", median(pods.map(({ containerMs }) => containerMs)));
  report("pod down", median(downs));
  pods.length = 0;
  for (let i = 0; i < quietRounds; i++) {
    await sleep(quietMs);
    await round();
  }
  report("pod up after quiet", median(pods.map(up)));
  await podDown(target, other);
}

export async function measureExecs(target: BenchTarget, report: Report): Promise<void> {
  const pod = await podUp(target);
  try {
    await execTrue(target, pod);
    const times: number[] = [];
    for (let i = 0; i < 100; i++) times.push(await timed(() => execTrue(target, pod)));
    report("ExecSync true", median(times));
    times.length = 0;
    for (let i = 0; i < quietRounds; i++) {
      await sleep(quietMs);
      times.push(await timed(() => execTrue(target, pod)));
    }
    report("ExecSync true after quiet", median(times));

    const seconds = 4;
    const until = Date.now() + seconds * 1000;
    const before = busyMs();
    let count = 0;
    const caller = async (): Promise<void> => {
      for (; Date.now() < until; count++) await execTrue(target, pod);
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    report("execs a second, 8 callers", count / seconds);
    report("CPU per exec, whole machine", (busyMs() - before) / count);
  } finally {
    await podDown(target, pod);
  }
}

export async function measureManyPods(target: BenchTarget, report: Report): Promise<void> {
  let pods: BenchPod[] = [];
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    times.push(await timed(async () => (pods = await Promise.all(Array.from({ length: 20 }, () => podUp(target))))));
    await Promise.all(pods.map((pod) => podDown(target, pod)));
  }
  report("20 pods at once, all running", median(times));
}

/** With 50 pods up: `whileUp` measures what only the runtime's own side knows. */
export async function measureFiftyPods(
  target: BenchTarget,
  report: Report,
  whileUp: () => Promise<void>,
): Promise<void> {
  const pods: BenchPod[] = [];
  for (let i = 0; i < 50; i++) pods.push(await podUp(target));
  try {
    const times: number[] = [];
    for (let i = 0; i < 20; i++) times.push(await timed(() => target.client.call("ListContainerStats", {})));
    report("ListContainerStats, 50 containers", median(times));
    await whileUp();
  } finally {
    for (const pod of pods) await podDown(target, pod);
  }
}

/**
 * A gigabyte in lines of 100 bytes, from the word to go to the recorded end of the container. The lines are in its page
 * cache before, so that what makes them is not measured.
 */
export async function measureLog(target: BenchTarget, report: Report): Promise<void> {
  const [bytes, times] = [100_000_000, 10];
  const script = `yes ${"x".repeat(99)} | head -c ${bytes} > /tmp/lines; touch /tmp/ready
    while [ ! -e /tmp/go ]; do usleep 1000; done
    for i in $(seq ${times}); do cat /tmp/lines; done`;
  const pod = await podUp(target, ["sh", "-c", script]);
  const inside = (command: string) =>
    target.client.call("ExecSync", { container_id: pod.containerId, cmd: ["sh", "-c", command] });
  await inside("while [ ! -e /tmp/ready ]; do usleep 10000; done");
  const begun = process.hrtime.bigint();
  await inside("touch /tmp/go");
  await untilExited(target, pod);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  const { status } = await target.client.call("ContainerStatus", { container_id: pod.containerId });
  const logged = statSync(status?.log_path ?? join(target.logs, "?")).size;
  // a record is the line and "2026-11-24T07:00:00.123456789Z stdout F " before it
  if (logged < times * (bytes + (bytes / 100) * 30)) throw new Error(`the log has ${logged} bytes: lines are missing`);
  await podDown(target, pod);
  report("a container's output to its CRI log", (times * bytes) / 1e6 / seconds);
}

/** Removes the image first; the registry is on loopback. */
export async function measurePull({ client }: BenchTarget, image: string, report: Report): Promise<void> {
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    times.push(await timed(() => client.call("PullImage", { image: { image } })));
    await client.call("RemoveImage", { image: { image } });
    // making files right after a mass delete is slower for a while on ext4
    await sleep(quietMs);
  }
  report("pull and unpack, 6 layers, 6,000 files", median(times) / 1000);
}
