import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Hierarchy } from "./manager.js";
import { v1Part } from "./v1.js";

const alone = (controller: string): Hierarchy => ({
  mountPoint: `/c/${controller}`,
  version: 1,
  controllers: [controller],
  name: "",
});
const part = v1Part(["cpu", "cpuacct", "devices", "memory", "pids", "hugetlb"].map(alone));
const writes = (resources: Parameters<typeof part.settings>[1]) =>
  part.settings("/p/x", resources, { fresh: true }).map(({ file, value }) => `${file.slice(3)}=${value}`);

describe("v1 settings", () => {
  it("have block IO a device a line, in a file for each kind", () => {
    const blkio = v1Part([alone("blkio")]);
    const device = { major: 8, minor: 16 };
    const blockIO = {
      weight: 80,
      weightDevice: [{ ...device, weight: 20 }],
      throttleReadBpsDevice: [
        { ...device, rate: 1e6 },
        { major: 8, minor: 0, rate: 2e6 },
      ],
      throttleWriteBpsDevice: [{ ...device, rate: 3e6 }],
      throttleReadIOPSDevice: [{ ...device, rate: 4 }],
      throttleWriteIOPSDevice: [{ ...device, rate: 5 }],
    };
    assert.deepEqual(
      blkio.settings("/p", { blockIO }, { fresh: true }).map(({ file, value }) => `${file.slice(9)}=${value}`),
      [
        "p/blkio.bfq.weight=80",
        "p/blkio.bfq.weight_device=8:16 20",
        "p/blkio.throttle.read_bps_device=8:16 1000000",
        "p/blkio.throttle.read_bps_device=8:0 2000000",
        "p/blkio.throttle.write_bps_device=8:16 3000000",
        "p/blkio.throttle.read_iops_device=8:16 4",
        "p/blkio.throttle.write_iops_device=8:16 5",
      ],
    );
    assert.deepEqual(writes({ blockIO }), []);
  });

  it("are v1's own values", () => {
    assert.deepEqual(
      writes({
        devices: [{ allow: false }, { allow: true, type: "c", major: 1, minor: 3, access: "rwm" }],
        cpu: { shares: 512, quota: 20_000, period: 50_000 },
        memory: { limit: 1 << 20, swap: 2 << 20, reservation: 4096 },
        pids: { limit: 10 },
        hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
      }),
      [
        "devices/p/x/devices.deny=a",
        "devices/p/x/devices.allow=c 1:3 rwm",
        "cpu/p/x/cpu.shares=512",
        "cpu/p/x/cpu.cfs_quota_us=20000",
        "cpu/p/x/cpu.cfs_period_us=50000",
        "memory/p/x/memory.soft_limit_in_bytes=4096",
        "memory/p/x/memory.limit_in_bytes=1048576",
        "memory/p/x/memory.memsw.limit_in_bytes=2097152",
        "pids/p/x/pids.max=10",
        "hugetlb/p/x/hugetlb.2MB.limit_in_bytes=0",
        "hugetlb/p/x/hugetlb.2MB.rsvd.limit_in_bytes=0",
      ],
    );
  });

  it("write a longer period before its quota", () => {
    assert.deepEqual(writes({ cpu: { quota: 300_000, period: 200_000 } }), [
      "cpu/p/x/cpu.cfs_period_us=200000",
      "cpu/p/x/cpu.cfs_quota_us=300000",
    ]);
  });

  it("know no limit", () => {
    assert.deepEqual(writes({ cpu: { quota: -1 }, memory: { limit: -1, swap: -1 }, pids: { limit: -1 } }), [
      "cpu/p/x/cpu.cfs_quota_us=-1",
      "memory/p/x/memory.limit_in_bytes=-1",
      "memory/p/x/memory.memsw.limit_in_bytes=-1",
      "pids/p/x/pids.max=max",
    ]);
  });

  it("leave the kernel's defaults alone", () => assert.deepEqual(writes({}), []));
});

describe("v1 files that are there", () => {
  let root = "";
  before(() => {
    root = mkdtempSync(join(tmpdir(), "berth-v1-"));
    for (const directory of ["cpuset", "cpuset/a", "memory/a"]) mkdirSync(join(root, directory), { recursive: true });
    for (const [file, content] of [
      ["cpuset/cpuset.cpus", "0-1\n"],
      ["cpuset/cpuset.mems", "0\n"],
      ["cpuset/a/cpuset.cpus", "1\n"],
      ["cpuset/a/cpuset.mems", "\n"],
      ["memory/a/memory.memsw.limit_in_bytes", "20000000\n"],
    ] as const) {
      writeFileSync(join(root, file), content);
    }
  });
  after(() => rmSync(root, { recursive: true }));
  const mounted = () => v1Part(["cpuset", "memory"].map((name) => ({ ...alone(name), mountPoint: join(root, name) })));
  const shown = (settings: { file: string; value: string }[]) =>
    settings.map(({ file, value }) => `${file.slice(root.length + 1)}=${value}`);

  it("fill every cpuset that has none, from the nearest parent that has", () => {
    assert.deepEqual(shown(mounted().preparation("/a/b/c")), [
      "cpuset/a/b/cpuset.cpus=1",
      "cpuset/a/b/c/cpuset.cpus=1",
      "cpuset/a/cpuset.mems=0",
      "cpuset/a/b/cpuset.mems=0",
      "cpuset/a/b/c/cpuset.mems=0",
    ]);
  });

  it("raise the limit of memory and swap before that of memory, and lower it after", () => {
    const update = (limit: number) =>
      shown(mounted().settings("/a", { memory: { limit, swap: limit } }, { fresh: false }));
    assert.deepEqual(update(40_000_000), [
      "memory/a/memory.memsw.limit_in_bytes=40000000",
      "memory/a/memory.limit_in_bytes=40000000",
    ]);
    assert.deepEqual(update(10_000_000), [
      "memory/a/memory.limit_in_bytes=10000000",
      "memory/a/memory.memsw.limit_in_bytes=10000000",
    ]);
  });
});
