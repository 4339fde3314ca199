import assert from "node:assert/strict";
import { test } from "node:test";
import { berth } from "../../cri-proto/generated/admin.js";
import { healthOf } from "./node-status.js";
import { podEventsOf } from "./pod-events.js";
import { imagesOfRolling, keepImageList, keepPod } from "./pods.js";

const names = { pod_namespace: "ns", pod_name: "p", pod_uid: "u" };
const reasonsOf = (happening: berth.v1.IHappening) =>
  podEventsOf(berth.v1.Happening.create({ ...names, ...happening }), []).map(({ reason }) => reason);

test("what only the runtime knows becomes an Event, and nothing else", () => {
  assert.deepEqual(reasonsOf({ type: "oom" }), ["OutOfMemory"]);
  assert.deepEqual(reasonsOf({ type: "container-exit", details: { oom_killed: "true" } }), ["OutOfMemory"]);
  assert.deepEqual(reasonsOf({ type: "container-exit", details: { oom_killed: "false" } }), []);
  assert.deepEqual(reasonsOf({ type: "seccomp-denied" }), ["SeccompDenied"]);
  assert.deepEqual(reasonsOf({ type: "repaired" }), ["LeakRepaired"]);
  assert.deepEqual(reasonsOf({ type: "repaired", pod_name: "" }), []);
  assert.deepEqual(reasonsOf({ type: "trouble", details: { attempts: "2" } }), []);
  assert.deepEqual(reasonsOf({ type: "trouble", details: { attempts: "3" } }), ["NetworkRemovalStuck"]);
  assert.deepEqual(reasonsOf({ type: "trouble", details: { what: "read a record" } }), []);
  assert.deepEqual(reasonsOf({ type: "pull-ended", details: { failure: "UNAVAILABLE" } }), []);
});

test("broken bytes are told to the pods that wait for the image", () => {
  const pod = (name: string, image: string, phase: string) =>
    keepPod({ metadata: { name }, spec: { containers: [{ image }] }, status: { phase } } as never);
  const pods = [pod("waits", "nginx", "Pending"), pod("runs", "nginx", "Running"), pod("other", "redis", "Pending")];
  const details = { failure: "INTERNAL", image: "docker.io/library/nginx:latest" };
  const events = podEventsOf(berth.v1.Happening.create({ type: "pull-ended", details }), pods);
  assert.deepEqual(
    events.map(({ pod: { name }, reason }) => [name, reason]),
    [["waits", "ImageContentMismatch"]],
  );
});

test("objects of any shape are read, or refused with a sentence", () => {
  assert.deepEqual(keepPod({}).images, []);
  assert.throws(() => keepPod({ spec: { containers: [{ image: "Not a reference" }] } } as never));
  const list = (images: string) => keepImageList({ data: { images } } as never);
  assert.deepEqual(list("# none\n\nnginx # the web\n"), ["docker.io/library/nginx:latest"]);
  assert.throws(() => list("nginx\n".repeat(201)), /names 201 images; 200 at most/);
  assert.deepEqual(keepImageList({}), []);
});

test("a DaemonSet without a pod here is not prefetched", () => {
  const sets = new Map([
    ["here", { images: ["new", "old"] }],
    ["there", { images: ["far"] }],
  ]);
  const ownerReferences = ["here", "gone"].map((uid) => ({ uid }));
  const pod = { ...keepPod({ metadata: { ownerReferences } } as never), images: ["old"] };
  assert.deepEqual(imagesOfRolling([pod], sets), ["new"]);
});

test("errors make a node unhealthy, warnings are told", () => {
  const finding = (id: string, severity: "error" | "warning" | "note") => ({
    id,
    severity,
    what: id,
    consequence: "so",
  });
  assert.deepEqual(healthOf([]), { status: "True", reason: "BerthIsHealthy", message: "nothing is wrong" });
  assert.deepEqual(healthOf([finding("W", "warning"), finding("N", "note")]), {
    status: "True",
    reason: "BerthIsHealthy",
    message: "W: so.",
  });
  const { status, reason } = healthOf([finding("E", "error"), finding("W", "warning")]);
  assert.deepEqual([status, reason], ["False", "E"]);
});

test("images of containers and of volumes are prefetched, but for those that nobody may pull", () => {
  const spec = {
    initContainers: [{ image: "init", imagePullPolicy: "Always" }],
    containers: [{ image: "main" }, { image: "local", imagePullPolicy: "Never" }],
    volumes: [
      { emptyDir: {} },
      { image: { reference: "model" } },
      { image: { reference: "own", pullPolicy: "Never" } },
    ],
  };
  const name = (image: string) => `docker.io/library/${image}:latest`;
  assert.deepEqual(keepPod({ spec } as never).images, ["main", "init", "model"].map(name));
  assert.deepEqual(keepPod({ spec: { ...spec, imagePullSecrets: [{ name: "s" }] } } as never).images, []);
});
