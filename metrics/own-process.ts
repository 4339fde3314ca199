/** What the agent tells of its own process. */
import { readdirSync, statSync } from "node:fs";
import { constants, monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { processInstruments } from "./instruments.js";
import type { MakeDistributions, MakeValues } from "./own-series.js";

/** `look` is called for each answer. */
export function observeProcess(
  values: MakeValues,
  distributions: MakeDistributions,
): { look: () => void; close: () => void } {
  const cpu = values(processInstruments.cpu);
  const residentMemory = values(processInstruments.residentMemory);
  const openDescriptors = values(processInstruments.openDescriptors);
  const heapUsed = values(processInstruments.heapUsed);
  const heapTotal = values(processInstruments.heapTotal);
  const externalMemory = values(processInstruments.externalMemory);
  const eventLoopLag = values(processInstruments.eventLoopLag);
  values(processInstruments.startTime).set({}, Math.round(Date.now() / 1000 - process.uptime()));
  const lag = monitorEventLoopDelay({ resolution: 10 });
  lag.enable();
  const collections = observeCollections(distributions);
  const look = () => {
    const { user, system } = process.cpuUsage();
    const memory = process.memoryUsage();
    cpu.set({}, (user + system) / 1e6);
    residentMemory.set({}, memory.rss);
    heapUsed.set({}, memory.heapUsed);
    heapTotal.set({}, memory.heapTotal);
    externalMemory.set({}, memory.external);
    openDescriptors.set({}, openCount());
    // since the last answer; the timer's own interval is counted in
    for (const quantile of [0.5, 0.9, 0.99]) {
      eventLoopLag.set({ quantile: String(quantile) }, lag.percentile(quantile * 100) / 1e9);
    }
    eventLoopLag.set({ quantile: "1" }, lag.max / 1e9);
    lag.reset();
  };
  const close = () => {
    lag.disable();
    collections.disconnect();
  };
  return { look, close };
}

/** The directory's size is their number, from Linux 6.2 on; before, it is 0. */
function openCount(): number {
  return statSync("/proc/self/fd").size || readdirSync("/proc/self/fd").length;
}

const collectionKinds = new Map<number, string>([
  [constants.NODE_PERFORMANCE_GC_MAJOR, "major"],
  [constants.NODE_PERFORMANCE_GC_MINOR, "minor"],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, "incremental"],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, "weakcb"],
]);

function observeCollections(distributions: MakeDistributions): PerformanceObserver {
  const durations = distributions(processInstruments.gcDuration);
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { duration, detail } = entry as typeof entry & { detail: { kind: number } };
      const { kind } = detail;
      durations.observe({ kind: collectionKinds.get(kind) ?? "other" }, duration / 1000);
    }
  });
  observer.observe({ entryTypes: ["gc"] });
  return observer;
}
