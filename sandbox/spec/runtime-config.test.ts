import assert from "node:assert/strict";
import { test } from "node:test";
import { buildSpec } from "./build-spec.js";
import type { Mount, OciSpec } from "./oci.js";
import { runtimeConfig, runtimeProcess } from "./runtime-config.js";
import { containerConfig, host, specInput } from "./spec-fixtures.js";

const mounts = [
  { host_path: "/srv/a", container_path: "/a", propagation: 2 },
  { host_path: "/srv/b", container_path: "/b", readonly: true, recursive_read_only: true, mount_options: ["noexec"] },
];
const spec = buildSpec(specInput({ config: containerConfig({ mounts }) }));

function configOf(changed: OciSpec, more: Partial<Parameters<typeof runtimeConfig>[1]> = {}): OciSpec {
  const sources = new Map<Mount, string>();
  for (const mount of changed.mounts) if (mount.type === "bind") sources.set(mount, `/bundle/${sources.size}`);
  const options = {
    sources,
    sharing: "container",
    pidNamespace: "/bundle/pid",
    podNamespaces: [],
    controllers: new Set<string>(),
    ...more,
  } as const;
  return JSON.parse(runtimeConfig(changed, options)) as OciSpec;
}

test("volumes come from where they are attached, with what every runtime knows", () => {
  const { mounts, linux } = configOf(spec);
  const at = (destination: string) => mounts.find((mount) => mount.destination === destination);
  assert.deepEqual(at("/a")?.options, ["rbind", "rshared", "rw"]);
  assert.match(at("/a")?.source ?? "", /^\/bundle\/\d+$/);
  assert.deepEqual(at("/b")?.options, ["rbind", "rprivate", "ro", "noexec"]);
  assert.equal(at("/proc")?.type, "proc");
  assert.equal(linux.rootfsPropagation, "rshared");
});

test("the pod's namespaces are joined, a shared PID namespace by its place", () => {
  const { linux } = configOf(spec, { sharing: "pod", podNamespaces: ["network", "ipc"] });
  assert.deepEqual(linux.namespaces.slice(-3), [
    { type: "network", path: "/proc/self/ns/net" },
    { type: "ipc", path: "/proc/self/ns/ipc" },
    { type: "pid", path: "/bundle/pid" },
  ]);
  assert.ok(!configOf(spec).linux.namespaces.some(({ type, path }) => type === "pid" && path !== undefined));
});

test("numbers that JavaScript cannot hold are written whole, and text that looks like one stays text", () => {
  const rlimits = [{ type: "RLIMIT_NOFILE", soft: 5, hard: 2 ** 64 }];
  const process = { ...spec.process, rlimits, args: ["18446744073709551615"] };
  const text = runtimeProcess(process);
  assert.match(text, /"hard":18446744073709551615[,}]/);
  assert.match(text, /"args":\["18446744073709551615"\]/);
  const seccomp = {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      {
        names: ["clone"],
        action: "SCMP_ACT_ERRNO",
        args: [{ index: 0, value: "0xffffffffffffffff", op: "SCMP_CMP_EQ" }],
      },
    ],
  };
  const options = {
    sources: new Map(),
    sharing: "container",
    pidNamespace: "",
    podNamespaces: [],
    controllers: new Set<string>(),
  } as const;
  const config = runtimeConfig({ ...spec, linux: { ...spec.linux, seccomp } }, options);
  assert.match(config, /"value":18446744073709551615,/);
});

test("limits of the configuration are in it", () => {
  const limited = buildSpec(specInput({ host: { ...host, rlimits: [{ type: "RLIMIT_CORE", soft: 0, hard: 0 }] } }));
  assert.deepEqual(configOf(limited).process.rlimits, [{ type: "RLIMIT_CORE", soft: 0, hard: 0 }]);
});

test("limits of huge pages are said where the runtime sees their controller", () => {
  const resources = { hugepageLimits: [{ pageSize: "2MB", limit: 0 }], pids: { limit: 7 } };
  const limited = { ...spec, linux: { ...spec.linux, resources } };
  assert.deepEqual(configOf(limited).linux.resources, { pids: { limit: 7 } });
  assert.deepEqual(configOf(limited, { controllers: new Set(["hugetlb"]) }).linux.resources, resources);
});
