/** What the agent tells of its own process. */
import { readdirSync, statSync } from "node:fs";
import {
  constants,
  type IntervalHistogram,
  monitorEventLoopDelay,
  PerformanceObserver,
  performance,
} from "node:perf_hooks";
import { processInstruments } from "./instruments.js";
import type { MakeDistributions, MakeValues } from "./own-series.js";

/** `look` is called for each answer, `begin` before it is made. */
export function observeProcess(
  values: MakeValues,
  distributions: MakeDistributions,
): { begin: () => void; look: () => void; close: () => void } {
  const cpu = values(processInstruments.cpu);
  const residentMemory = values(processInstruments.residentMemory);
  const openDescriptors = values(processInstruments.openDescriptors);
  const heapUsed = values(processInstruments.heapUsed);
  const heapTotal = values(processInstruments.heapTotal);
  const externalMemory = values(processInstruments.externalMemory);
  const eventLoopLag = values(processInstruments.eventLoopLag);
  values(processInstruments.startTime).set({}, Math.round(Date.now() / 1000 - process.uptime()));
  const lag = watchEventLoop();
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
      eventLoopLag.set({ quantile: String(quantile) }, lag.times.percentile(quantile * 100) / 1e9);
    }
    eventLoopLag.set({ quantile: "1" }, lag.times.max / 1e9);
    lag.times.reset();
  };
  const close = () => {
    lag.close();
    collections.disconnect();
  };
  return { begin: () => lag.times.enable(), look, close };
}

/** Of its time the event loop does more than this, or it rests: the looks themselves take a hundredth or two. */
const leastWork = 0.05;

/**
 * Node looks how late the loop is a hundred times a second: an agent at rest would do little else, so that nobody looks
 * while it is.
 */
function watchEventLoop(): { times: IntervalHistogram; close: () => void } {
  const times = monitorEventLoopDelay({ resolution: 10 });
  times.enable();
  let before = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    if (performance.eventLoopUtilization(now, before).utilization > leastWork) times.enable();
    else times.disable();
    before = now;
  }, 1000).unref();
  return {
    times,
    close: () => {
      clearInterval(timer);
      times.disable();
    },
  };
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
