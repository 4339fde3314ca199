import assert from "node:assert/strict";
import { test } from "node:test";
import { runtime as proto } from "../cri-proto/generated/runtime.js";
import type { CgroupSample } from "../sandbox/cgroup/manager.js";
import type { Container } from "../sandbox/container.js";
import { CpuRates } from "./cgroup-stats.js";
import { containerStats } from "./container-stats.js";
import type { Runtime } from "./runtime.js";

const container = {
  record: { id: "c1", phase: "running", cgroupPath: "/p/c1" },
  config: { metadata: { name: "main" } },
} as Container;
const seconds = (count: number) => count * 1e9;

/** A node whose cgroups answer one sample. */
function runtimeWith(sample: Partial<CgroupSample> | undefined, cpuRates = new CpuRates()): Runtime {
  const samples = sample === undefined ? [] : [["/p/c1", { timestamp: seconds(100), ...sample }]];
  return {
    cpuRates,
    node: {
      containers: { list: () => [container] },
      cgroups: { sample: async () => new Map(samples as [string, CgroupSample][]) },
      snapshots: {
        directory: "/var/lib/berth/containers",
        writableLayerUsage: async () => ({ bytes: 8192, inodes: 3, timestamp: 99_000_000_000n }),
      },
    },
  } as unknown as Runtime;
}

async function statsOf(runtime: Runtime): Promise<Record<string, unknown>> {
  const [stats] = await containerStats(runtime, [container]);
  const { ContainerStats } = proto.v1;
  const wire = ContainerStats.decode(ContainerStats.encode(stats ?? {}).finish());
  return ContainerStats.toObject(wire, { longs: String });
}

test("what the kernel told, and nothing else", async () => {
  const stats = await statsOf(
    runtimeWith({ memoryUsageBytes: 5000, memoryWorkingSetBytes: 4000, memoryLimitBytes: 10_000, majorPageFaults: 0 }),
  );
  assert.deepEqual(stats["memory"], {
    timestamp: "100000000000",
    working_set_bytes: { value: "4000" },
    available_bytes: { value: "6000" },
    usage_bytes: { value: "5000" },
    major_page_faults: {},
  });
  assert.deepEqual(stats["cpu"], { timestamp: "100000000000" });
  assert.deepEqual(stats["writable_layer"], {
    timestamp: "99000000000",
    fs_id: { mountpoint: "/var/lib/berth/containers" },
    used_bytes: { value: "8192" },
    inodes_used: { value: "3" },
  });
});

test("a container that has ended has neither cpu nor memory", async () => {
  const stats = await statsOf(runtimeWith(undefined));
  assert.deepEqual(Object.keys(stats).sort(), ["attributes", "writable_layer"]);
});

test("pressure is there where the kernel tells it", async () => {
  const stats = await statsOf(
    runtimeWith({ cpuSomeNs: 5000, cpuSomeAvg10: 1.25, cpuSomeAvg60: 0.5, cpuSomeAvg300: 0, ioFullNs: 7000 }),
  );
  assert.deepEqual(stats["cpu"], {
    timestamp: "100000000000",
    psi: { Some: { Total: "5000", Avg10: 1.25, Avg60: 0.5 } },
  });
  assert.deepEqual(stats["memory"], { timestamp: "100000000000" });
  assert.deepEqual(stats["io"], { timestamp: "100000000000", psi: { Full: { Total: "7000" } } });
});

test("the rate is made from the reading before", () => {
  const rates = new CpuRates();
  const take = (timestamp: number, cpuUsageNs: number) => rates.take(container, { timestamp, cpuUsageNs });
  assert.equal(take(seconds(10), seconds(1)), undefined);
  assert.equal(take(seconds(12), seconds(2)), 500_000_000);
  // too near: the last rate stands, and the reading before stays the reference
  assert.equal(take(seconds(12) + 1000, seconds(2)), 500_000_000);
  assert.equal(take(seconds(14), seconds(6)), 2_000_000_000);
});

test("a clock that was set back leaves one reading without a rate", () => {
  const rates = new CpuRates();
  const take = (timestamp: number, cpuUsageNs: number) => rates.take(container, { timestamp, cpuUsageNs });
  take(seconds(1000), seconds(5));
  assert.equal(take(seconds(10), seconds(6)), undefined);
  assert.equal(take(seconds(12), seconds(7)), 500_000_000);
});

test("a counter that went back gives no rate", () => {
  const rates = new CpuRates();
  rates.take(container, { timestamp: seconds(10), cpuUsageNs: seconds(5) });
  assert.equal(rates.take(container, { timestamp: seconds(11), cpuUsageNs: seconds(1) }), undefined);
});
