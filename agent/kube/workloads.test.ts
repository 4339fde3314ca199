import assert from "node:assert/strict";
import { test } from "node:test";
import { ownersText } from "./owner-metrics.js";
import { keepPod } from "./pods.js";
import { workloadOf } from "./workloads.js";

const owned = (kind: string, name: string, more: object = {}) =>
  workloadOf({ name: "p", ownerReferences: [{ apiVersion: "v1", kind, name, uid: "u", controller: true }], ...more });
const deployment = { labels: { "pod-template-hash": "6d4b75cb6d" } };

test("a pod's workload is its controller, and for what a Deployment or a CronJob has made, these", () => {
  assert.deepEqual(workloadOf({ name: "alone" }), { kind: "Pod", name: "alone" });
  assert.deepEqual(owned("DaemonSet", "ds"), { kind: "DaemonSet", name: "ds" });
  assert.deepEqual(owned("ReplicaSet", "web-6d4b75cb6d", deployment), { kind: "Deployment", name: "web" });
  // a ReplicaSet of its own, and one whose pods have another's label
  assert.deepEqual(owned("ReplicaSet", "web-6d4b75cb6d"), { kind: "ReplicaSet", name: "web-6d4b75cb6d" });
  assert.deepEqual(owned("ReplicaSet", "web", deployment), { kind: "ReplicaSet", name: "web" });
  const other = { apiVersion: "v1", kind: "Config", name: "c", uid: "u" };
  assert.deepEqual(workloadOf({ name: "p", ownerReferences: [other] }), { kind: "Pod", name: "p" });
});

test("a Job is a CronJob's when its name ends with the minute that it was planned for", () => {
  const created = (time: string) => ({ creationTimestamp: new Date(time) });
  const minute = Date.parse("2026-11-26T23:00:00Z") / 60_000;
  const job = `backup-${minute}`;
  assert.deepEqual(owned("Job", job, created("2026-11-26T23:00:01Z")), { kind: "CronJob", name: "backup" });
  assert.deepEqual(owned("Job", job, created("2026-11-26T22:59:00Z")), { kind: "Job", name: job });
  assert.deepEqual(owned("Job", job, created("2026-11-28T23:00:01Z")), { kind: "Job", name: job });
  assert.deepEqual(owned("Job", "backup-20261126", created("2026-11-26T23:00:01Z")), {
    kind: "Job",
    name: "backup-20261126",
  });
});

test("a name has one series, and none breaks its line", () => {
  const pod = (uid: string, owner: string) =>
    keepPod({
      metadata: { namespace: "n", name: "p-0", uid, ownerReferences: [{ kind: "K", name: owner, controller: true }] },
    } as never);
  assert.equal(
    ownersText([pod("1", "old"), pod("2", 'a"\n')]).replace(/^#.*\n/gm, ""),
    'berth_pod_owner{namespace="n",pod="p-0",uid="2",owner_kind="K",owner_name="a\\"\\n"} 1\n',
  );
});
