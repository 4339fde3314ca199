import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import { v2Part } from "./v2.js";

const all = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids"];
const part = v2Part({ mountPoint: "/c", version: 2, controllers: all, name: "" });
const writes = (resources: Parameters<typeof part.settings>[1]) =>
  part.settings("/p", resources, { fresh: true }).map(({ file, value }) => `${file.slice(5)}=${value}`);

describe("v2 settings", () => {
  it("are converted from v1's terms", () => {
    assert.deepEqual(
      writes({
        cpu: { shares: 1024, quota: 20_000, period: 50_000, cpus: "0-1", mems: "0" },
        memory: { limit: 1 << 20, swap: 3 << 20, reservation: 4096 },
        pids: { limit: 10 },
        hugepageLimits: [{ pageSize: "2MB", limit: 2 << 20 }],
        unified: { "memory.high": "900000", "memory.oom.group": "1" },
      }),
      [
        "cpuset.cpus=0-1",
        "cpuset.mems=0",
        "cpu.weight=100",
        "cpu.max=20000 50000",
        "memory.low=4096",
        "memory.swap.max=2097152",
        "memory.max=1048576",
        "pids.max=10",
        "hugetlb.2MB.max=2097152",
        "hugetlb.2MB.rsvd.max=2097152",
        "memory.high=900000",
        "memory.oom.group=1",
      ],
    );
  });

  it("know no limit", () => {
    assert.deepEqual(writes({ cpu: { quota: -1, period: 100_000 }, memory: { limit: -1 }, pids: { limit: -1 } }), [
      "cpu.max=max 100000",
      "memory.max=max",
      "pids.max=max",
    ]);
  });

  it("have block IO a device a line", () => {
    const device = { major: 8, minor: 16 };
    const blockIO = {
      throttleReadBpsDevice: [{ ...device, rate: 1e6 }],
      throttleWriteIOPSDevice: [
        { ...device, rate: 10 },
        { major: 8, minor: 0, rate: 20 },
      ],
    };
    assert.deepEqual(writes({ blockIO }), ["io.max=8:16 rbps=1000000 wiops=10", "io.max=8:0 wiops=20"]);
    assert.deepEqual(writes({ blockIO: {} }), []);
  });

  it("have BFQ's weights where that is loaded, and the cost model's elsewhere", () => {
    const root = mkdtempSync(join(tmpdir(), "berth-v2-io-"));
    const weights = () =>
      v2Part({ mountPoint: root, version: 2, controllers: all, name: "" })
        .settings(
          "/p",
          { blockIO: { weight: 505, weightDevice: [{ major: 8, minor: 0, weight: 10 }] } },
          { fresh: true },
        )
        .map(({ file, value }) => `${file.slice(root.length)}=${value}`);
    try {
      assert.deepEqual(weights(), ["/p/io.weight=default 5000", "/p/io.weight=8:0 1"]);
      mkdirSync(join(root, "any"));
      writeFileSync(join(root, "any", "io.bfq.weight"), "");
      assert.deepEqual(weights(), ["/p/io.bfq.weight=default 505", "/p/io.bfq.weight=8:0 10"]);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it("refuse what only v1 has", () => {
    assert.throws(() => writes({ memory: { swappiness: 10 } }), InvalidArgumentError);
    assert.throws(() => writes({ memory: { disableOOMKiller: true } }), InvalidArgumentError);
  });

  it("are none on a hybrid host's unified side", () => {
    const bare = v2Part({ mountPoint: "/c", version: 2, controllers: [], name: "" });
    assert.deepEqual(bare.settings("/p", { cpu: { shares: 5 }, memory: { limit: 1 << 20 } }, { fresh: true }), []);
  });
});

describe("v2 files that are there", () => {
  let root = "";
  before(() => {
    root = mkdtempSync(join(tmpdir(), "berth-v2-"));
    mkdirSync(join(root, "a"));
    for (const [file, content] of [
      ["cgroup.subtree_control", "cpu cpuset hugetlb io memory pids\n"],
      ["a/cgroup.subtree_control", "memory\n"],
      ["a/cpu.max", "20000 100000\n"],
      ["a/memory.max", "1000000\n"],
    ] as const) {
      writeFileSync(join(root, file), content);
    }
  });
  after(() => rmSync(root, { recursive: true }));
  const mounted = () => v2Part({ mountPoint: root, version: 2, controllers: all, name: "" });
  const shown = (settings: { file: string; value: string }[]) =>
    settings.map(({ file, value }) => `${file.slice(root.length + 1)}=${value}`);

  it("hand controllers down to the parent, not to the leaf", () => {
    assert.deepEqual(shown(mounted().preparation("/a/b/c")), [
      "a/cgroup.subtree_control=+cpu +cpuset +hugetlb +io +pids",
      "a/b/cgroup.subtree_control=+cpu +cpuset +hugetlb +io +memory +pids",
    ]);
  });

  it("keep the quota when only the period changes, and take swap from the present limit", () => {
    assert.deepEqual(shown(mounted().settings("/a", { cpu: { period: 50_000 } }, { fresh: false })), [
      "a/cpu.max=20000 50000",
    ]);
    assert.deepEqual(shown(mounted().settings("/a", { memory: { swap: 1_500_000 } }, { fresh: false })), [
      "a/memory.swap.max=500000",
    ]);
  });
});
