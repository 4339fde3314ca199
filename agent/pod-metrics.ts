/** The metrics of pods and containers as the CRI's messages, which the kubelet serves on /metrics/cadvisor. */
import { setImmediate } from "node:timers/promises";
import Long from "long";
import { runtime as proto } from "../cri-proto/generated/runtime.js";
import { type Family, families } from "../metrics/families.js";
import { type Subject, subjectsOf } from "../metrics/subjects.js";
import type { Runtime } from "./runtime.js";

const { MetricType } = proto.v1;

/** Those that the kubelet serves; what is told of a host without huge pages' controller must be among what it knows. */
const criFamilies = families.filter(({ name }) => name !== "container_hugetlb_failcnt");

export function metricDescriptors(): proto.v1.IMetricDescriptor[] {
  return criFamilies.map(({ name, help, labels }) => ({ name, help, label_keys: [...labels] }));
}

/** For how long the event loop is kept at a time: exec probes wait meanwhile. */
const sliceMs = 2;

/** Of every pod that is ready; of its containers those that run. One pass over the statistics, told pod by pod. */
export async function* podMetrics({ node }: Runtime): AsyncGenerator<proto.v1.IPodSandboxMetrics> {
  const pods = new Map<string, Subject[]>();
  for (const subject of await subjectsOf(node)) {
    const { id } = subject.pod.record;
    const subjects = pods.get(id);
    if (subjects === undefined) pods.set(id, [subject]);
    else subjects.push(subject);
  }
  let begun = performance.now();
  for (const [podId, subjects] of pods) {
    yield metricsOfPod(podId, subjects);
    if (performance.now() - begun < sliceMs) continue;
    await setImmediate();
    begun = performance.now();
  }
}

function metricsOfPod(podId: string, subjects: readonly Subject[]): proto.v1.IPodSandboxMetrics {
  const own: proto.v1.IMetric[] = [];
  const ofContainers: proto.v1.IContainerMetrics[] = [];
  for (const subject of subjects) {
    const metrics = criFamilies.flatMap((family) => metricsOf(family, subject));
    if (subject.container === undefined) own.push(...metrics);
    else ofContainers.push({ container_id: subject.container.record.id, metrics });
  }
  return { pod_sandbox_id: podId, metrics: own, container_metrics: ofContainers };
}

function metricsOf(family: Family, subject: Subject): proto.v1.IMetric[] {
  const type = family.type === "counter" ? MetricType.COUNTER : MetricType.GAUGE;
  const metrics: proto.v1.IMetric[] = [];
  for (const row of family.kind.rows(subject)) {
    const labels = [...subject.labels, ...family.kind.label(row)];
    for (const column of family.columns) {
      const value = column.value(row);
      if (value === undefined) continue;
      metrics.push({
        name: family.name,
        // of the time of the call: what is older is not told
        timestamp: Long.ZERO,
        metric_type: type,
        label_values: [...labels, ...column.labels],
        // the CRI has whole numbers only, seconds too; -1 is what cAdvisor says of no limit, and there is no such number here
        value: { value: Long.fromNumber(Math.max(0, Math.floor(value)), true) },
      });
    }
  }
  return metrics;
}
