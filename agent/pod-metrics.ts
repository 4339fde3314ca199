/** The metrics of pods and containers as the CRI's messages, which the kubelet serves on /metrics/cadvisor. */
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

/** Of every pod that is ready; of its containers those that run. */
export async function podMetrics({ node }: Runtime): Promise<proto.v1.IPodSandboxMetrics[]> {
  const pods = new Map<string, proto.v1.IPodSandboxMetrics & { metrics: proto.v1.IMetric[] }>();
  for (const subject of await subjectsOf(node)) {
    const { id } = subject.pod.record;
    let pod = pods.get(id);
    if (pod === undefined) {
      pod = { pod_sandbox_id: id, metrics: [], container_metrics: [] };
      pods.set(id, pod);
    }
    const metrics = criFamilies.flatMap((family) => metricsOf(family, subject));
    if (subject.container === undefined) pod.metrics.push(...metrics);
    else pod.container_metrics?.push({ container_id: subject.container.record.id, metrics });
  }
  return [...pods.values()];
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
