/** What Berth tells of itself: counted as it happens, or looked at for each answer. */
import { native } from "../native/binding.js";
import type { ContainerPhase } from "../sandbox/container.js";
import type { Happening } from "../sandbox/observer.js";
import type { PodPhase } from "../sandbox/pod.js";
import type { ObservedNode } from "./collect.js";
import { berthInstruments, type Instrument } from "./instruments.js";
import { observeProcess } from "./own-process.js";
import { Distributions, type MakeDistributions, type MakeValues, Values } from "./own-series.js";

export interface FinishedCall {
  method: string;
  /** the gRPC status' name; "OK" counts no error */
  code: string;
  seconds: number;
  /** of the trace that the caller says the call is part of, when it is recorded */
  traceId?: string | undefined;
}

export interface OwnSeries {
  observeCall(call: FinishedCall): void;
  /** an answer is about to be made */
  begin(): void;
  write(openMetrics: boolean, collectSeconds: number): Promise<string>;
  /** stops listening to the node's observer */
  close(): void;
}

export function openOwnSeries(node: ObservedNode, version: string): OwnSeries {
  const all: { write(openMetrics: boolean): Promise<string> }[] = [];
  const values = <I extends Instrument>(instrument: I) => added(all, new Values(instrument));
  const distributions = <I extends Instrument>(instrument: I) => added(all, new Distributions(instrument));

  const calls = distributions(berthInstruments.callDuration);
  const errors = values(berthInstruments.callErrors);
  const unsubscribe = node.observer.subscribe(countHappenings(values, distributions));
  const lookAtNode = observeNode(node, version, values);
  const ownProcess = observeProcess(values, distributions);
  const collecting = values(berthInstruments.collectDuration);
  return {
    observeCall({ method, code, seconds, traceId }) {
      calls.observe({ method }, seconds, traceId);
      if (code !== "OK") errors.add({ method, code });
    },
    begin: ownProcess.begin,
    async write(openMetrics, collectSeconds) {
      await lookAtNode();
      ownProcess.look();
      collecting.set({}, collectSeconds);
      return (await Promise.all(all.map((series) => series.write(openMetrics)))).join("");
    },
    close() {
      unsubscribe();
      ownProcess.close();
    },
  };
}

function added<T>(all: unknown[], one: T): T {
  all.push(one);
  return one;
}

/** What the observer tells, counted from the agent's start. */
function countHappenings(values: MakeValues, distributions: MakeDistributions): (happening: Happening) => void {
  const steps = distributions(berthInstruments.stepDuration);
  const exits = values(berthInstruments.exits);
  const oomNotices = values(berthInstruments.oomNotices);
  const logDropped = values(berthInstruments.logDropped);
  const execDropped = values(berthInstruments.execDropped);
  const monitorsLost = values(berthInstruments.monitorsLost);
  const repaired = values(berthInstruments.repaired);
  const restored = values(berthInstruments.restored);
  const troubles = values(berthInstruments.troubles);
  const pullsInFlight = values(berthInstruments.pullsInFlight);
  const pullErrors = values(berthInstruments.pullErrors);
  const pullBytes = values(berthInstruments.pullBytes);
  const storeWrites = distributions(berthInstruments.storeWriteDuration);
  const storeFailures = values(berthInstruments.storeWriteFailures);
  // a rate needs a beginning, and what is 0 is not unknown
  for (const counter of [oomNotices, logDropped, execDropped, monitorsLost, restored, pullBytes, storeFailures])
    counter.set({}, 0);
  for (const priority of ["normal", "low"]) pullsInFlight.set({ priority }, 0);
  return (happening) => {
    switch (happening.type) {
      case "step":
        return steps.observe({ operation: happening.operation, step: happening.step }, happening.seconds);
      case "container-exit":
        return exits.add({ reason: exitReason(happening) });
      case "oom":
        return oomNotices.add({});
      case "log-dropped":
        return logDropped.add({}, happening.bytes);
      case "exec-output-cut":
        return execDropped.add({}, happening.bytes);
      case "monitor-lost":
        return monitorsLost.add({});
      case "pull-begun":
        return pullsInFlight.add({ priority: happening.priority });
      case "pull-ended":
        pullsInFlight.add({ priority: happening.priority }, -1);
        if (happening.failure !== undefined) pullErrors.add({ kind: happening.failure.kind });
        return;
      case "pull-bytes":
        return pullBytes.add({}, happening.bytes);
      case "record-written":
        storeWrites.observe({}, happening.seconds);
        if (happening.failed) storeFailures.add({});
        return;
      case "repaired":
        return repaired.add({ what: happening.what });
      case "restored":
        return restored.add({});
      case "trouble":
        return troubles.add({ what: happening.what });
      case "container-event":
      case "pod-event":
      case "limitation":
      case "condition":
      case "adjusted":
      case "seccomp-denied":
        return;
      default:
        happening satisfies never;
    }
  };
}

function exitReason({ exitCode, oomKilled }: { exitCode: number; oomKilled: boolean }): string {
  return oomKilled ? "OOMKilled" : exitCode === 0 ? "Completed" : "Error";
}

/** The processes of monitors are looked at on another thread, before the rest. */
async function monitorsMemory(node: ObservedNode): Promise<{ sum: number; most: number }> {
  const pids = node.pods.list().flatMap(({ monitorPid }) => (monitorPid > 0 ? [monitorPid] : []));
  let sum = 0;
  let most = 0;
  for (const bytes of await native.memoryOf(pids)) {
    if (Number.isNaN(bytes)) continue;
    sum += bytes;
    most = Math.max(most, bytes);
  }
  return { sum, most };
}

function observeNode(node: ObservedNode, version: string, values: MakeValues): () => Promise<void> {
  values(berthInstruments.buildInfo).set({ version, node_version: process.version }, 1);
  const pods = values(berthInstruments.pods);
  const containers = values(berthInstruments.containers);
  const networkRemovals = values(berthInstruments.networkRemovals);
  const monitors = values(berthInstruments.monitorsMemory);
  const largestMonitor = values(berthInstruments.largestMonitor);
  const records = values(berthInstruments.storeRecords);
  return async () => {
    const memory = await monitorsMemory(node);
    monitors.set({}, memory.sum);
    largestMonitor.set({}, memory.most);
    networkRemovals.set({}, node.network.pendingRemovals().length);
    for (const kind of ["pods", "containers"] as const) records.set({ kind }, node.store[kind].size);
    const podCounts: Record<PodPhase, number> = { starting: 0, ready: 0, stopping: 0, stopped: 0 };
    for (const { record } of node.pods.list()) podCounts[record.phase]++;
    for (const [state, count] of Object.entries(podCounts)) pods.set({ state }, count);
    const containerCounts: Record<ContainerPhase, number> = { creating: 0, created: 0, running: 0, exited: 0 };
    for (const { record } of node.containers.list()) containerCounts[record.phase]++;
    for (const [state, count] of Object.entries(containerCounts)) containers.set({ state }, count);
  };
}
