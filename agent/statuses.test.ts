/** Pods, containers and images as the CRI's statuses show them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { Container } from "../sandbox/container.js";
import type { Pod } from "../sandbox/pod.js";
import { containerStatus, listedContainer } from "./container-status.js";
import { describeImage } from "./image-status.js";
import type { ImageRecord } from "./images/image-store.js";
import type { Images } from "./images/images.js";
import { podStatus } from "./pod-status.js";

const { Container: ListedContainer, ContainerStatus, Image, PodSandboxStatus } = proto.v1;
const options = { longs: String, enums: String };

function pod(record: Partial<Pod["record"]>): Pod {
  const config = {
    metadata: { name: "p", namespace: "n", uid: "u", attempt: 2 },
    labels: { a: "b" },
    linux: { security_context: { namespace_options: { pid: proto.v1.NamespaceMode.CONTAINER } } },
  };
  const whole = { id: "p1", createdAt: "1700000000123456789", runtimeHandler: "", addresses: ["10.0.0.2", "fd00::2"] };
  return { record: { ...whole, phase: "ready", ...record }, config } as unknown as Pod;
}

const podObject = (of: Pod) =>
  PodSandboxStatus.toObject(PodSandboxStatus.decode(PodSandboxStatus.encode(podStatus(of)).finish()), options);

test("a pod that is ready", () => {
  assert.deepEqual(podObject(pod({})), {
    id: "p1",
    metadata: { name: "p", namespace: "n", uid: "u", attempt: 2 },
    created_at: "1700000000123456789",
    network: { ip: "10.0.0.2", additional_ips: [{ ip: "fd00::2" }] },
    linux: { namespaces: { options: { pid: "CONTAINER" } } },
    labels: { a: "b" },
  });
});

test("a pod that was stopped has no address any more", () => {
  const status = podObject(pod({ phase: "stopped" }));
  assert.equal(status["state"], "SANDBOX_NOTREADY");
  assert.deepEqual(status["network"], {});
});

const imageId = `sha256:${"1".repeat(64)}`;
const repoDigest = `docker.io/library/busybox@sha256:${"b".repeat(64)}`;
const images = {
  store: { find: () => ({ repoTags: ["docker.io/library/busybox:1"], repoDigests: [repoDigest] }) },
} as unknown as Images;

function container(image: string): Container {
  return {
    record: {
      id: "c1",
      podId: "p1",
      phase: "exited",
      imageId,
      createdAt: "1",
      startedAt: "2",
      finishedAt: "3",
      exitCode: 137,
      reason: "OOMKilled",
      message: "",
      logPath: "/var/log/pods/x/0.log",
      stopSignal: proto.v1.Signal.SIGNAL_SIGTERM,
      spec: { process: { user: { uid: 1000, gid: 5, additionalGids: [7] } } },
    },
    config: { metadata: { name: "main" }, image: { image, user_specified_image: "busybox:1" } },
  } as unknown as Container;
}

test("a container that was killed for memory", () => {
  const bytes = ContainerStatus.encode(containerStatus(container("busybox:1"), images)).finish();
  assert.deepEqual(ContainerStatus.toObject(ContainerStatus.decode(bytes), options), {
    id: "c1",
    metadata: { name: "main" },
    state: "CONTAINER_EXITED",
    created_at: "1",
    started_at: "2",
    finished_at: "3",
    exit_code: 137,
    image: { image: "busybox:1", user_specified_image: "busybox:1" },
    image_ref: repoDigest,
    image_id: imageId,
    reason: "OOMKilled",
    log_path: "/var/log/pods/x/0.log",
    resources: {},
    user: { linux: { uid: "1000", gid: "5", supplemental_groups: ["7"] } },
    stop_signal: "SIGNAL_SIGTERM",
  });
});

test("an image that was asked for by id is shown by a name that people know", () => {
  const bytes = ListedContainer.encode(listedContainer(container(imageId), images)).finish();
  const listed = ListedContainer.toObject(ListedContainer.decode(bytes), options);
  assert.equal(listed["image"].image, "docker.io/library/busybox:1");
  assert.equal(listed["image_id"], imageId);
});

test("of an image's several names, the one that the pod's author wrote is shown", () => {
  const repoTags = ["a.example/busybox:1", "docker.io/library/busybox:1", "docker.io/library/busybox:2"];
  const named = { store: { find: () => ({ repoTags, repoDigests: [] }) } } as unknown as Images;
  const shown = (written: string) => {
    const of = container(imageId);
    of.config.image = { image: imageId, user_specified_image: written };
    return containerStatus(of, named).image?.image;
  };
  assert.equal(shown("busybox:2"), "docker.io/library/busybox:2");
  assert.equal(shown("docker.io/library/busybox:1"), "docker.io/library/busybox:1");
  for (const other of ["", "No Name", "busybox:3"]) assert.equal(shown(other), repoTags[0]);
});

for (const [user, expected] of [
  ["", {}],
  ["1000", { uid: { value: "1000" } }],
  ["0:0", { uid: {} }],
  ["www-data:www-data", { username: "www-data" }],
] as const) {
  test(`the user "${user}" of an image`, () => {
    const record = { id: imageId, repoTags: [], repoDigests: [], sizeBytes: 5, config: { config: { User: user } } };
    const bytes = Image.encode(describeImage(record as unknown as ImageRecord, { isPinned: () => false })).finish();
    assert.deepEqual(Image.toObject(Image.decode(bytes), options), { id: imageId, size: "5", ...expected });
  });
}
