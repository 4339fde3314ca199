/** To which workload a pod belongs, as far as the pod itself tells: nothing is asked of the API server for it. */
import type { V1ObjectMeta } from "@kubernetes/client-node";

export interface Workload {
  kind: string;
  name: string;
}

/** A CronJob may begin its Job this much later than it is planned for. */
const latestStartMinutes = 24 * 60;

/** Its controller; of a ReplicaSet that a Deployment has made the Deployment, and of a CronJob's Job the CronJob; or itself. */
export function workloadOf({ name = "", ownerReferences = [], labels, creationTimestamp }: V1ObjectMeta): Workload {
  const owner = ownerReferences.find(({ controller }) => controller);
  if (owner === undefined) return { kind: "Pod", name };
  if (owner.kind === "ReplicaSet") {
    const hash = `-${labels?.["pod-template-hash"]}`;
    if (owner.name.endsWith(hash)) return { kind: "Deployment", name: owner.name.slice(0, -hash.length) };
  }
  if (owner.kind === "Job") {
    // the name ends with the minute that it was planned for
    const [, cronJob = "", minute] = /^(.+)-(\d{8,})$/.exec(owner.name) ?? [];
    const late = new Date(creationTimestamp ?? 0).getTime() / 60_000 - Number(minute);
    if (late >= 0 && late < latestStartMinutes) return { kind: "CronJob", name: cronJob };
  }
  return { kind: owner.kind, name: owner.name };
}
