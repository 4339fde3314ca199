/** Monitors that live for no pod. What is in their containers dies with them. */
import { native } from "../../native/binding.js";
import { Latch } from "../latch.js";
import { type MonitorProcess, monitorProcess } from "../monitor-processes.js";
import type { Known, Leak } from "./leak.js";

const patienceMs = 10_000;

/** @param monitors of this agent */
export function leakedProcesses(monitors: readonly MonitorProcess[], known: Known): Leak[] {
  return monitors
    .filter(({ podId }) => !known.pods.has(podId))
    .map((monitor) => ({
      kind: "process",
      subject: String(monitor.pid),
      what: `the monitor of pod ${monitor.podId}, which is not known`,
      ours: true,
      repair: () => kill(monitor),
    }));
}

async function kill({ pid, podId }: MonitorProcess): Promise<void> {
  if (monitorProcess(pid)?.podId !== podId) return;
  const pidfd = native.openProcess(pid);
  const ended = new Latch();
  const watch = native.watchProcess(pidfd, () => ended.open());
  try {
    // the number may have become another's before it was opened
    if (monitorProcess(pid)?.podId !== podId) return;
    native.sendSignal(pidfd, 9);
    if (!(await ended.wait(patienceMs))) throw new Error(`it does not end within ${patienceMs / 1000} s`);
  } finally {
    watch.close();
    native.closeDescriptor(pidfd);
  }
}
