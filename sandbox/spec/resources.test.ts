import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "../errors.js";
import { buildSpec } from "./build-spec.js";
import { devices } from "./devices.js";
import { changedResources, linuxResources, oomScoreAdj } from "./resources.js";
import { containerConfig, host, specInput } from "./spec-fixtures.js";

const field = "config.linux.resources";
const message = (fields: Record<string, unknown>) => runtime.v1.LinuxContainerResources.fromObject(fields);
const convert = (fields: Record<string, unknown>, cgroupMode: "v1" | "v2" = "v1") =>
  linuxResources(message(fields), { field, cgroupMode });

test("what is not said stays absent", () => {
  assert.deepEqual(linuxResources(null, { field, cgroupMode: "v1" }), {});
  assert.deepEqual(convert({}), {});
  assert.deepEqual(convert({ cpu_quota: -1 }), { cpu: { quota: -1 } });
  assert.deepEqual(convert({ cpu_shares: 1 }), { cpu: { shares: 2 } });
  assert.deepEqual(convert({ cpu_shares: 1_000_000 }), { cpu: { shares: 262_144 } });
});

test("memory without a swap limit allows no swap", () => {
  const mib = 1024 * 1024;
  assert.deepEqual(convert({ memory_limit_in_bytes: 100 * mib }), { memory: { limit: 100 * mib, swap: 100 * mib } });
  assert.deepEqual(convert({ memory_limit_in_bytes: 100 * mib, memory_swap_limit_in_bytes: -1 }), {
    memory: { limit: 100 * mib, swap: -1 },
  });
  assert.deepEqual(convert({ memory_limit_in_bytes: -1 }), { memory: { limit: -1 } });
});

test("pids.max works everywhere, other unified files on v2", () => {
  assert.deepEqual(convert({ unified: { "pids.max": "64" } }), { pids: { limit: 64 } });
  assert.deepEqual(convert({ unified: { "pids.max": "max" } }), { pids: { limit: -1 } });
  assert.deepEqual(convert({ unified: { "memory.high": "1000" } }, "v2"), { unified: { "memory.high": "1000" } });
});

test("values beyond each limit name their field", () => {
  const bad: [Record<string, unknown>, RegExp][] = [
    [{ cpu_period: 999 }, /resources\.cpu_period: 999/],
    [{ cpu_period: 1_000_001 }, /cpu_period: 1000001/],
    [{ cpu_period: -1 }, /cpu_period/],
    [{ cpu_quota: 999 }, /cpu_quota: 999/],
    [{ cpu_quota: -2 }, /cpu_quota: -2/],
    [{ cpu_shares: -1 }, /cpu_shares: -1/],
    [{ memory_limit_in_bytes: 4096 }, /memory_limit_in_bytes: 4096 is too little/],
    [{ memory_limit_in_bytes: 6 * 1024 * 1024 - 1 }, /memory_limit_in_bytes/],
    [{ memory_limit_in_bytes: -2 }, /memory_limit_in_bytes/],
    [{ memory_limit_in_bytes: "9223372036854775807" }, /memory_limit_in_bytes: 9223372036854775807 is out of range/],
    [{ memory_swap_limit_in_bytes: 1 }, /memory_swap_limit_in_bytes: it needs/],
    [
      { memory_limit_in_bytes: 8_000_000, memory_swap_limit_in_bytes: 7_000_000 },
      /memory_swap_limit_in_bytes: 7000000/,
    ],
    [{ cpuset_cpus: "0-" }, /cpuset_cpus: "0-"/],
    [{ cpuset_cpus: "3-1" }, /cpuset_cpus/],
    [{ cpuset_mems: "0\n1" }, /cpuset_mems/],
    [{ hugepage_limits: [{ page_size: "2M", limit: 1 }] }, /hugepage_limits\[0\]\.page_size: "2M"/],
    [{ unified: { "../x": "1" } }, /unified\["\.\.\/x"\]/],
    [{ unified: { "cgroup.freeze": "1" } }, /unified\["cgroup.freeze"\]/],
    [{ unified: { "memory.high": "1" } }, /unified\["memory.high"\]: this host has no cgroup v2/],
    [{ unified: { "pids.max": "-5" } }, /unified\["pids.max"\]: "-5"/],
  ];
  for (const [fields, pattern] of bad) {
    assert.throws(
      () => convert(fields),
      (error) => error instanceof InvalidArgumentError && pattern.test(error.message),
    );
  }
  for (const value of [-1001, 1001]) {
    assert.throws(() => oomScoreAdj(message({ oom_score_adj: value }), field), /resources\.oom_score_adj/);
  }
  assert.equal(oomScoreAdj(message({ oom_score_adj: -1000 }), field), -1000);
});

test("without CAP_SYS_RESOURCE oom_score_adj is not below the agent's own", () => {
  const config = containerConfig({ linux: { resources: { oom_score_adj: -997 } } });
  assert.equal(buildSpec(specInput({ config })).process.oomScoreAdj, -500);
  const able = { ...host, capabilities: host.capabilities | (1n << 24n) };
  assert.equal(buildSpec(specInput({ config, host: able })).process.oomScoreAdj, -997);
});

test("device rules: deny all, then what is there; privileged may use all", () => {
  const fuse = {
    path: "/dev/fuse",
    type: "c" as const,
    major: 10,
    minor: 229,
    fileMode: 0o666,
    uid: 0,
    gid: 0,
    access: "rw",
  };
  const plain = { devIsMounted: false, ownUserNamespace: false };
  const { nodes, rules } = devices([fuse], { ...plain, privileged: false });
  assert.deepEqual(rules[0], { allow: false, access: "rwm" });
  assert.deepEqual(rules.at(-1), { allow: true, type: "c", major: 10, minor: 229, access: "rw" });
  assert.deepEqual(nodes.map(({ path }) => path).slice(-2), ["/dev/tty", "/dev/fuse"]);
  assert.ok(!nodes.some((node) => "access" in node));
  assert.deepEqual(devices([], { ...plain, privileged: true, devIsMounted: true }), {
    nodes: [],
    rules: [{ allow: true, access: "rwm" }],
  });
  const inside = { ...plain, privileged: true, ownUserNamespace: true };
  assert.equal(devices([fuse], inside).nodes.at(-1)?.uid, 0);
  assert.ok(!("uid" in (devices([{ ...fuse, ofPrivilege: true }], inside).nodes.at(-1) ?? {})));
});

test("a change leaves what it does not say", () => {
  const sizes = (...limits: [string, number][]) => limits.map(([pageSize, limit]) => ({ pageSize, limit }));
  const old = {
    cpu: { shares: 512, quota: 50_000, period: 100_000 },
    memory: { limit: 100, swap: 100, reservation: 7 },
    pids: { limit: 9 },
    hugepageLimits: sizes(["2MB", 1], ["1GB", 0]),
  };
  assert.deepEqual(changedResources(old, { cpu: { cpus: "0" } }), { ...old, cpu: { ...old.cpu, cpus: "0" } });
  assert.deepEqual(changedResources(old, { memory: { limit: -1 } }).memory, { limit: -1, reservation: 7 });
  assert.deepEqual(
    changedResources(old, { hugepageLimits: sizes(["2MB", 5]) }).hugepageLimits,
    sizes(["1GB", 0], ["2MB", 5]),
  );
  assert.deepEqual(changedResources({}, { unified: { "memory.high": "1" } }), { unified: { "memory.high": "1" } });
});
