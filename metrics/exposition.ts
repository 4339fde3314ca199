/** The metrics of one node in prom-client: filled anew for each answer, so that what is gone has no series. */
import { readdirSync } from "node:fs";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { ContainerPhase } from "../sandbox/container.js";
import type { Happening } from "../sandbox/observer.js";
import type { PodPhase } from "../sandbox/pod.js";
import { type ContainerSample, collect, type NodeSample, type ObservedNode, type PodNetworkSample } from "./collect.js";
import {
  berthInstruments,
  type CgroupInstrument,
  cgroupInstruments,
  type Instrument,
  networkInstruments,
  processInstruments,
  recordInstruments,
  type subjectLabels,
} from "./instruments.js";

export interface Exposition {
  readonly contentType: string;
  /** Prometheus' text format */
  render(): Promise<string>;
  /** `code` is the gRPC status' name; "OK" counts no error */
  observeCall(method: string, code: string, seconds: number): void;
  /** stops listening to the node's observer */
  close(): void;
}

type Labels = Record<string, string>;

/** A series that is known as a whole each time: a gauge, or the kernel's (or somebody else's) own counter. */
interface Snapshot {
  reset(): void;
  set(labels: Labels, value: number): void;
}

export function createExposition(node: ObservedNode, options: { version: string }): Exposition {
  const registry = new Registry();
  const snapshots = new Map<string, Snapshot>();
  const snapshot = (instrument: Instrument): Snapshot => {
    const known = snapshots.get(instrument.name);
    if (known !== undefined) return known;
    const made = makeSnapshot(registry, instrument);
    snapshots.set(instrument.name, made);
    return made;
  };
  for (const instrument of [...cgroupInstruments, ...networkInstruments, ...Object.values(recordInstruments)]) {
    snapshot(instrument);
  }

  const { callDuration, callErrors, stepDuration } = berthInstruments;
  const calls = histogram(registry, callDuration);
  const errors = counter(registry, callErrors);
  const steps = histogram(registry, stepDuration);
  const happenings = countHappenings(registry, (operation, step, seconds) =>
    steps.observe({ operation, step }, seconds),
  );
  const unsubscribe = node.observer.subscribe(happenings);
  const fill = (sample: NodeSample, collectSeconds: number) => {
    for (const metric of snapshots.values()) metric.reset();
    for (const container of sample.containers) fillContainer(snapshot, container);
    for (const network of sample.networks) fillNetwork(snapshot, network);
    fillBerth(snapshot, node, options.version);
    fillProcess(snapshot);
    snapshot(berthInstruments.collectDuration).set({}, collectSeconds);
  };

  return {
    contentType: registry.contentType,
    async render() {
      const begun = performance.now();
      const sample = await collect(node);
      fill(sample, (performance.now() - begun) / 1000);
      return registry.metrics();
    },
    observeCall(method, code, seconds) {
      calls.observe({ method }, seconds);
      if (code !== "OK") errors.inc({ method, code });
    },
    close: unsubscribe,
  };
}

function fillContainer(snapshot: (instrument: Instrument) => Snapshot, sample: ContainerSample): void {
  const { container, cgroup } = sample;
  const labels = containerLabels(sample);
  for (const instrument of cgroupInstruments) {
    const value = cgroupValue(instrument, cgroup);
    if (value !== undefined) snapshot(instrument).set({ ...labels, ...instrument.fixed }, value);
  }
  const { startTime, lastSeen, cpuShares, cpuQuota, cpuPeriod } = recordInstruments;
  snapshot(startTime).set(labels, Number(BigInt(container.record.startedAt) / 1_000_000n) / 1000);
  snapshot(lastSeen).set(labels, Math.floor(cgroup.timestamp / 1e9));
  const { shares, quota, period } = container.record.spec?.linux.resources.cpu ?? {};
  if (shares !== undefined) snapshot(cpuShares).set(labels, shares);
  if (quota !== undefined && quota > 0) snapshot(cpuQuota).set(labels, quota);
  if (period !== undefined) snapshot(cpuPeriod).set(labels, period);
}

function cgroupValue({ field, divisor = 1, absent }: CgroupInstrument, sample: CgroupSample): number | undefined {
  const value = sample[field as keyof CgroupSample];
  return value === undefined ? absent : value / divisor;
}

function containerLabels({ pod, container }: ContainerSample): Record<(typeof subjectLabels)[number], string> {
  const { metadata, image } = container.config;
  return {
    container: metadata?.name ?? "",
    id: container.record.cgroupPath,
    image: image?.user_specified_image || image?.image || container.record.imageId,
    name: container.record.id,
    namespace: pod.config.metadata?.namespace ?? "",
    pod: pod.config.metadata?.name ?? "",
  };
}

/** A pod's network belongs to no container: as in the kubelet's cAdvisor, `container` is empty and `name` the sandbox. */
function fillNetwork(snapshot: (instrument: Instrument) => Snapshot, { pod, links }: PodNetworkSample): void {
  const { metadata } = pod.config;
  const labels = {
    container: "",
    id: pod.record.monitorCgroup,
    image: "",
    name: pod.record.id,
    namespace: metadata?.namespace ?? "",
    pod: metadata?.name ?? "",
  };
  for (const link of links) {
    for (const instrument of networkInstruments) {
      snapshot(instrument).set({ ...labels, interface: link.name }, link[instrument.field]);
    }
  }
}

function fillBerth(snapshot: (instrument: Instrument) => Snapshot, node: ObservedNode, version: string): void {
  const { pods, containers, buildInfo } = berthInstruments;
  snapshot(buildInfo).set({ version, node_version: process.version }, 1);
  const podCounts: Record<PodPhase, number> = { starting: 0, ready: 0, stopping: 0, stopped: 0 };
  for (const { record } of node.pods.list()) podCounts[record.phase]++;
  for (const [state, count] of Object.entries(podCounts)) snapshot(pods).set({ state }, count);
  const containerCounts: Record<ContainerPhase, number> = { creating: 0, created: 0, running: 0, exited: 0 };
  for (const { record } of node.containers.list()) containerCounts[record.phase]++;
  for (const [state, count] of Object.entries(containerCounts)) snapshot(containers).set({ state }, count);
}

function fillProcess(snapshot: (instrument: Instrument) => Snapshot): void {
  const { cpu, residentMemory, openDescriptors, startTime, heapUsed } = processInstruments;
  const { user, system } = process.cpuUsage();
  const memory = process.memoryUsage();
  snapshot(cpu).set({}, (user + system) / 1e6);
  snapshot(residentMemory).set({}, memory.rss);
  snapshot(heapUsed).set({}, memory.heapUsed);
  snapshot(openDescriptors).set({}, readdirSync("/proc/self/fd").length);
  snapshot(startTime).set({}, Math.round(Date.now() / 1000 - process.uptime()));
}

/** What the observer tells, counted from the agent's start. */
function countHappenings(
  registry: Registry,
  onStep: (operation: string, step: string, seconds: number) => void,
): (happening: Happening) => void {
  const exits = counter(registry, berthInstruments.exits);
  const oomNotices = counter(registry, berthInstruments.oomNotices);
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

function makeSnapshot(registry: Registry, instrument: Instrument): Snapshot {
  if (instrument.type === "counter") {
    const metric = counter(registry, instrument);
    // The counter is the kernel's: its value is taken over whole.
    return { reset: () => metric.reset(), set: (labels, value) => metric.inc(labels, value) };
  }
  return gauge(registry, instrument);
}

function gauge(registry: Registry, { name, help, labels }: Instrument): Gauge {
  return new Gauge({ name, help, labelNames: labels, registers: [registry] });
}

function counter(registry: Registry, { name, help, labels }: Instrument): Counter {
  return new Counter({ name, help, labelNames: labels, registers: [registry] });
}

function histogram(registry: Registry, { name, help, labels, buckets = [] }: Instrument): Histogram {
  return new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers: [registry] });
}
