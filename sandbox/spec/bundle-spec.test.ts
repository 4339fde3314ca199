import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { buildSpec } from "./build-spec.js";
import { type BundlePlace, bundleSpec, specToJson } from "./bundle-spec.js";
import type { OciSpec } from "./oci.js";
import { containerConfig, specInput } from "./spec-fixtures.js";

const place: BundlePlace = {
  namespaces: [{ type: "network", path: "/run/netns/berth-x" }, { type: "uts" }, { type: "ipc" }],
  hostname: "pod1",
  sysctl: { "kernel.shmmax": "1" },
  cgroupsPath: "/berth/c-bundle",
  controllers: new Set(),
};

test("the pod's namespaces are said, image volumes become binds of the bundle's own mounts", () => {
  const mounts = [
    { container_path: "/a", readonly: true, image: { image: "i", image_ref: "sha256:aa" }, image_sub_path: "x" },
    { container_path: "/b", host_path: "/srv" },
  ];
  const { spec, volumes } = bundleSpec(buildSpec(specInput({ config: containerConfig({ mounts }) })), "/bundle", place);
  assert.deepEqual(volumes, [{ path: "/bundle/volumes/0", imageId: "sha256:aa", subPath: "x" }]);
  assert.equal(spec.mounts.find(({ destination }) => destination === "/a")?.source, "/bundle/volumes/0");
  assert.equal(spec.mounts.find(({ destination }) => destination === "/b")?.source, "/srv");
  assert.deepEqual(spec.linux.namespaces.map(({ type }) => type).sort(), ["cgroup", "ipc", "mount", "network", "uts"]);
  assert.equal(spec.linux.namespaces.find(({ type }) => type === "network")?.path, "/run/netns/berth-x");
  assert.deepEqual([spec.hostname, spec.linux.cgroupsPath], ["pod1", "/berth/c-bundle"]);
  assert.deepEqual(spec.linux.sysctl, { "kernel.shmmax": "1" });
});

test("the host's namespaces are not said", () => {
  const { spec } = bundleSpec(buildSpec(specInput()), "/bundle", {
    ...place,
    namespaces: [],
    hostname: "",
    sysctl: {},
  });
  assert.deepEqual(spec.linux.namespaces.map(({ type }) => type).sort(), ["cgroup", "mount"]);
  assert.equal(spec.hostname, undefined);
});

test("bytes of the environment that JSON cannot say are U+FFFD there", () => {
  const config = containerConfig({ envs: [{ key: "A", value: Buffer.from([0xff, 0x41]) }] });
  assert.match(specToJson(buildSpec(specInput({ config }))), /"A=\ufffdA"/);
});

test("a volume that follows the host needs a root that does", () => {
  const propagation = (...mounts: runtime.v1.IMount[]) =>
    bundleSpec(buildSpec(specInput({ config: containerConfig({ mounts }) })), "/bundle", place).spec.linux
      .rootfsPropagation;
  const { PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL } = runtime.v1.MountPropagation;
  const slave = { container_path: "/a", host_path: "/srv", propagation: PROPAGATION_HOST_TO_CONTAINER };
  const shared = { container_path: "/b", host_path: "/srv", propagation: PROPAGATION_BIDIRECTIONAL };
  assert.equal(propagation(), undefined);
  assert.equal(propagation(slave), "rslave");
  assert.equal(propagation(slave, shared), "rshared");
});

test("numbers that JavaScript cannot hold are numbers in JSON", () => {
  const spec = buildSpec(specInput());
  const seccomp = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      {
        names: ["x"],
        action: "SCMP_ACT_ERRNO",
        args: [{ index: 0, value: "0xffffffffffffffff", valueTwo: 1, op: "SCMP_CMP_EQ" }],
      },
    ],
  };
  const json = specToJson({ ...spec, linux: { ...spec.linux, seccomp } });
  assert.match(json, /"value": 18446744073709551615,/);
  assert.equal((JSON.parse(json) as OciSpec).linux.seccomp?.syscalls?.[0]?.args?.[0]?.valueTwo, 1);
});
