import assert from "node:assert/strict";
import { test } from "node:test";
import Long from "long";
import { overlay } from "./resources-in-force.js";

const told = (asked: Parameters<typeof overlay>[0], limits: Parameters<typeof overlay>[1]) =>
  Object.fromEntries(Object.entries(overlay(asked, limits)).map(([name, value]) => [name, String(value)]));

test("what the kernel rounded is told as it was asked for", () => {
  const asked = { memory_limit_in_bytes: Long.fromNumber(10_000_000), cpu_shares: Long.fromNumber(100) };
  assert.deepEqual(told(asked, { memoryBytes: 9_998_336, cpuWeight: 17 }), {
    memory_limit_in_bytes: "10000000",
    cpu_shares: "100",
  });
});

test("what is otherwise in force than asked for is told as it is", () => {
  const asked = {
    memory_limit_in_bytes: Long.fromNumber(10_000_000),
    cpu_shares: Long.fromNumber(100),
    cpu_quota: Long.fromNumber(5_000),
    cpuset_cpus: "0,1",
  };
  const limits = { memoryBytes: 8_388_608, cpuShares: 512, cpuQuota: -1, cpuPeriod: 50_000, cpus: "1" };
  assert.deepEqual(told(asked, limits), {
    memory_limit_in_bytes: "8388608",
    cpu_shares: "512",
    cpu_quota: "-1",
    cpu_period: "50000",
    cpuset_cpus: "1",
  });
});

test("the kernel's defaults stay unsaid where nothing was asked for", () => {
  const limits = { memoryBytes: -1, memoryAndSwapBytes: -1, cpuShares: 1024, cpuQuota: -1, cpuPeriod: 100_000 };
  assert.deepEqual(told({}, limits), {});
  assert.deepEqual(told({}, { ...limits, cpus: "0-1", mems: "0" }), {});
  const asked = { memory_limit_in_bytes: Long.fromNumber(1 << 26) };
  const swapless = { memoryBytes: 1 << 26, memoryAndSwapBytes: 1 << 26 };
  assert.deepEqual(told(asked, swapless), { memory_limit_in_bytes: String(1 << 26) });
});

test("a list that names the same numbers is told as it was asked for", () => {
  assert.deepEqual(told({ cpuset_cpus: "1,0" }, { cpus: "0-1" }), { cpuset_cpus: "1,0" });
});
