/** The metrics of one node: made anew for each answer, so that what is gone has no series. */
import { readdirSync, statSync } from "node:fs";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry, type RegistryContentType } from "prom-client";
import type { ContainerPhase } from "../sandbox/container.js";
import type { Happening } from "../sandbox/observer.js";
import type { PodPhase } from "../sandbox/pod.js";
import type { ObservedNode } from "./collect.js";
import { families } from "./families.js";
import { berthInstruments, type Instrument, processInstruments } from "./instruments.js";
import { subjectsOf } from "./subjects.js";
import { writeFamilies } from "./text.js";

export interface Exposition {
  /** the answer in pieces, in Prometheus' text format or in OpenMetrics' */
  render(openMetrics: boolean): AsyncGenerator<string>;
  /** `code` is the gRPC status' name; "OK" counts no error */
  observeCall(method: string, code: string, seconds: number): void;
  /** stops listening to the node's observer */
  close(): void;
}

export const contentTypes = {
  text: Registry.PROMETHEUS_CONTENT_TYPE,
  openMetrics: Registry.OPENMETRICS_CONTENT_TYPE,
} as const;

type Labels = Record<string, string>;

/** A series that is known as a whole each time: a gauge, or the kernel's (or somebody else's) own counter. */
interface Snapshot {
  reset(): void;
  set(labels: Labels, value: number): void;
}

export function createExposition(node: ObservedNode, options: { version: string }): Exposition {
  const registry: Registry<RegistryContentType> = new Registry<RegistryContentType>();
  const snapshots = new Map<string, Snapshot>();
  const snapshot = (instrument: Instrument): Snapshot => {
    const known = snapshots.get(instrument.name);
    if (known !== undefined) return known;
    const made = makeSnapshot(registry, instrument);
    snapshots.set(instrument.name, made);
    return made;
  };

  const { callDuration, callErrors, stepDuration } = berthInstruments;
  const calls = histogram(registry, callDuration);
  const errors = counter(registry, callErrors);
  const steps = histogram(registry, stepDuration);
  const happenings = countHappenings(registry, (operation, step, seconds) =>
    steps.observe({ operation, step }, seconds),
  );
  const unsubscribe = node.observer.subscribe(happenings);
  const lag = monitorEventLoopDelay({ resolution: 10 });
  lag.enable();
  let last: Promise<unknown> = Promise.resolve();
  /** One after the other: the registry has one format at a time. */
  const own = (openMetrics: boolean, collectSeconds: number): Promise<string> => {
    const next = last.then(() => {
      for (const metric of snapshots.values()) metric.reset();
      fillBerth(snapshot, node, options.version);
      fillProcess(snapshot, lag);
      snapshot(berthInstruments.collectDuration).set({}, collectSeconds);
      registry.setContentType(openMetrics ? contentTypes.openMetrics : contentTypes.text);
      return registry.metrics();
    });
    last = next.catch(() => undefined);
    return next;
  };

  return {
    async *render(openMetrics) {
      const begun = performance.now();
      const subjects = await subjectsOf(node);
      const collectSeconds = (performance.now() - begun) / 1000;
      yield* writeFamilies(families, subjects, openMetrics);
      yield await own(openMetrics, collectSeconds);
    },
    observeCall(method, code, seconds) {
      calls.observe({ method }, seconds);
      if (code !== "OK") errors.inc({ method, code });
    },
    close() {
      unsubscribe();
      lag.disable();
    },
  };
}

function fillBerth(snapshot: (instrument: Instrument) => Snapshot, node: ObservedNode, version: string): void {
  const { pods, containers, buildInfo, networkRemovals } = berthInstruments;
  snapshot(networkRemovals).set({}, node.network.pendingRemovals().length);
  snapshot(buildInfo).set({ version, node_version: process.version }, 1);
  const podCounts: Record<PodPhase, number> = { starting: 0, ready: 0, stopping: 0, stopped: 0 };
  for (const { record } of node.pods.list()) podCounts[record.phase]++;
  for (const [state, count] of Object.entries(podCounts)) snapshot(pods).set({ state }, count);
  const containerCounts: Record<ContainerPhase, number> = { creating: 0, created: 0, running: 0, exited: 0 };
  for (const { record } of node.containers.list()) containerCounts[record.phase]++;
  for (const [state, count] of Object.entries(containerCounts)) snapshot(containers).set({ state }, count);
}

function fillProcess(snapshot: (instrument: Instrument) => Snapshot, lag: IntervalHistogram): void {
  const { cpu, residentMemory, openDescriptors, startTime, heapUsed, eventLoopLag } = processInstruments;
  const { user, system } = process.cpuUsage();
  const memory = process.memoryUsage();
  snapshot(cpu).set({}, (user + system) / 1e6);
  snapshot(residentMemory).set({}, memory.rss);
  snapshot(heapUsed).set({}, memory.heapUsed);
  snapshot(openDescriptors).set({}, openCount());
  snapshot(startTime).set({}, Math.round(Date.now() / 1000 - process.uptime()));
  // since the last answer; the timer's own interval is counted in
  for (const quantile of [0.5, 0.9, 0.99]) {
    snapshot(eventLoopLag).set({ quantile: String(quantile) }, lag.percentile(quantile * 100) / 1e9);
  }
  snapshot(eventLoopLag).set({ quantile: "1" }, lag.max / 1e9);
  lag.reset();
}

/** The directory's size is their number, from Linux 6.2 on; before, it is 0. */
function openCount(): number {
  return statSync("/proc/self/fd").size || readdirSync("/proc/self/fd").length;
}

/** What the observer tells, counted from the agent's start. */
function countHappenings(
  registry: Registry<RegistryContentType>,
  onStep: (operation: string, step: string, seconds: number) => void,
): (happening: Happening) => void {
  const exits = counter(registry, berthInstruments.exits);
  const oomNotices = counter(registry, berthInstruments.oomNotices);
  const logDropped = counter(registry, berthInstruments.logDropped);
  const monitorsLost = counter(registry, berthInstruments.monitorsLost);
  const repaired = counter(registry, berthInstruments.repaired);
  const restored = counter(registry, berthInstruments.restored);
  const troubles = counter(registry, berthInstruments.troubles);
  const pullsInFlight = gauge(registry, berthInstruments.pullsInFlight);
  for (const priority of ["normal", "low"]) pullsInFlight.set({ priority }, 0);
  const pullErrors = counter(registry, berthInstruments.pullErrors);
  const pullBytes = counter(registry, berthInstruments.pullBytes);
  return (happening) => {
    switch (happening.type) {
      case "step":
        return onStep(happening.operation, happening.step, happening.seconds);
      case "container-exit":
        return exits.inc({ reason: exitReason(happening) });
      case "oom":
        return oomNotices.inc();
      case "log-dropped":
        return logDropped.inc(happening.bytes);
      case "monitor-lost":
        return monitorsLost.inc();
      case "pull-begun":
        return pullsInFlight.inc({ priority: happening.priority });
      case "pull-ended":
        pullsInFlight.dec({ priority: happening.priority });
        if (happening.failure !== undefined) pullErrors.inc({ kind: happening.failure });
        return;
      case "pull-bytes":
        return pullBytes.inc(happening.bytes);
      case "repaired":
        return repaired.inc({ what: happening.what });
      case "restored":
        return restored.inc();
      case "trouble":
        return troubles.inc({ what: happening.what });
      case "container-event":
      case "pod-event":
      case "limitation":
        return;
      default:
        happening satisfies never;
    }
  };
}

function exitReason({ exitCode, oomKilled }: { exitCode: number; oomKilled: boolean }): string {
  return oomKilled ? "OOMKilled" : exitCode === 0 ? "Completed" : "Error";
}

function makeSnapshot(registry: Registry<RegistryContentType>, instrument: Instrument): Snapshot {
  if (instrument.type === "counter") {
    const metric = counter(registry, instrument);
    // The counter is the kernel's: its value is taken over whole.
    return { reset: () => metric.reset(), set: (labels, value) => metric.inc(labels, value) };
  }
  return gauge(registry, instrument);
}

function gauge(registry: Registry<RegistryContentType>, { name, help, labels }: Instrument): Gauge {
  return new Gauge({ name, help, labelNames: labels, registers: [registry] });
}

function counter(registry: Registry<RegistryContentType>, { name, help, labels }: Instrument): Counter {
  return new Counter({ name, help, labelNames: labels, registers: [registry] });
}

function histogram(
  registry: Registry<RegistryContentType>,
  { name, help, labels, buckets = [] }: Instrument,
): Histogram {
  return new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers: [registry] });
}
