import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError, ResourceExhaustedError } from "../errors.js";
import { LeasePool } from "./leases.js";

function takeAll(pool: LeasePool): string[] {
  return Array.from({ length: Number(pool.capacity) }, () => pool.take("a"));
}

test("network, gateway and broadcast are never given to a pod", () => {
  const pool = new LeasePool("10.1.2.0/29");
  assert.equal(pool.gateway, "10.1.2.1");
  assert.deepEqual(takeAll(pool), ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
});

test("a full range is an error that names the subnet", () => {
  const pool = new LeasePool("10.1.2.9/30");
  assert.deepEqual(takeAll(pool), ["10.1.2.10"]);
  assert.throws(
    () => pool.take("a"),
    (error) => error instanceof ResourceExhaustedError && error.message.includes("10.1.2.8/30"),
  );
  pool.free("10.1.2.10", "a");
  assert.equal(pool.take("a"), "10.1.2.10");
});

test("the address that was freed longest ago comes back first, after all that were never used", () => {
  const pool = new LeasePool("10.1.2.0/29");
  assert.equal(pool.take("a"), "10.1.2.2");
  assert.equal(pool.take("a"), "10.1.2.3");
  pool.free("10.1.2.3", "a");
  pool.free("10.1.2.2", "a");
  assert.deepEqual(
    [pool.take("a"), pool.take("a"), pool.take("a"), pool.take("a"), pool.take("a")],
    ["10.1.2.4", "10.1.2.5", "10.1.2.6", "10.1.2.3", "10.1.2.2"],
  );
  assert.throws(() => pool.take("a"), ResourceExhaustedError);
});

test("freeing twice gives an address once", () => {
  const pool = new LeasePool("10.1.2.0/30");
  const address = pool.take("a");
  pool.free(address, "a");
  pool.free(address, "a");
  pool.take("a");
  assert.throws(() => pool.take("a"), ResourceExhaustedError);
});

test("an address that is another pod's by now is not freed by the one that had it before", () => {
  const pool = new LeasePool("10.1.2.0/30");
  const address = pool.take("old");
  pool.free(address, "old");
  assert.equal(pool.take("new"), address);
  pool.free(address, "old");
  assert.throws(() => pool.take("third"), ResourceExhaustedError);
});

test("adopted addresses are skipped, and used again when they are freed", () => {
  const pool = new LeasePool("10.1.2.0/29");
  assert.ok(pool.adopt("10.1.2.3", "a"));
  assert.ok(!pool.adopt("10.1.2.3", "a"), "taken");
  assert.ok(!pool.adopt("10.1.3.3", "a"), "of another subnet");
  assert.deepEqual([pool.take("a"), pool.take("a")], ["10.1.2.2", "10.1.2.4"]);
  pool.free("10.1.2.3", "a");
  assert.deepEqual([pool.take("a"), pool.take("a"), pool.take("a")], ["10.1.2.5", "10.1.2.6", "10.1.2.3"]);
});

test("an adopted address that was freed before its turn is given once", () => {
  const pool = new LeasePool("10.1.2.0/29");
  pool.adopt("10.1.2.5", "a");
  pool.free("10.1.2.5", "a");
  assert.equal(new Set(takeAll(pool)).size, 5);
});

test("a pool goes on after the address that an earlier one gave last, and comes to all of them", () => {
  const earlier = new LeasePool("10.1.2.0/29");
  assert.equal(earlier.lastTaken, undefined);
  earlier.take("a");
  earlier.take("a");
  assert.equal(earlier.lastTaken, "10.1.2.3");
  const pool = new LeasePool("10.1.2.0/29");
  pool.adopt("10.1.2.5", "b");
  pool.continueAfter("10.1.2.3");
  const take = (count: number) => Array.from({ length: count }, () => pool.take("a"));
  assert.deepEqual(take(4), ["10.1.2.4", "10.1.2.6", "10.1.2.2", "10.1.2.3"]);
  assert.throws(() => pool.take("a"), ResourceExhaustedError);
  pool.free("10.1.2.6", "a");
  pool.free("10.1.2.4", "a");
  assert.deepEqual(take(2), ["10.1.2.6", "10.1.2.4"]);
  for (const odd of ["10.1.2.1", "10.9.9.9", "fd00::1"]) new LeasePool("10.1.2.0/29").continueAfter(odd);
});

test("pools that overlap share what is taken", () => {
  const taken = new Map<string, string>();
  const wide = new LeasePool("10.1.0.0/16", taken);
  assert.equal(wide.take("a"), "10.1.0.2");
  const narrow = new LeasePool("10.1.0.0/29", taken);
  assert.equal(narrow.take("a"), "10.1.0.3");
  assert.equal(wide.take("a"), "10.1.0.4");
  narrow.free("10.1.0.3", "a");
  assert.deepEqual([wide.take("a"), narrow.take("a")], ["10.1.0.5", "10.1.0.6"]);
});

test("IPv6 ranges are as large as they are, and have no broadcast address", () => {
  const pool = new LeasePool("fd00:0:0:1::/64");
  assert.equal(pool.gateway, "fd00:0:0:1::1");
  assert.equal(pool.capacity, 2n ** 64n - 2n);
  assert.equal(pool.take("a"), "fd00:0:0:1::2");
  assert.ok(pool.adopt("FD00:0:0:1:0:0:0:3", "a"));
  assert.equal(pool.take("a"), "fd00:0:0:1::4");
  assert.deepEqual(takeAll(new LeasePool("fd00::/126")), ["fd00::2", "fd00::3"]);
});

test("a subnet without room for a gateway and a pod is refused", () => {
  for (const subnet of ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127"]) {
    assert.throws(() => new LeasePool(subnet), InvalidArgumentError);
  }
});

test("a /16 is taken whole in well under a second", () => {
  const pool = new LeasePool("10.88.0.0/16");
  const addresses = takeAll(pool);
  assert.equal(new Set(addresses).size, 65533);
  for (const address of addresses) pool.free(address, "a");
  assert.equal(pool.take("a"), "10.88.0.2");
});

test("of a large subnet all addresses come before one comes again, in turn", () => {
  const pool = new LeasePool("10.1.2.0/29", new Map(), 4n);
  const next = (podId: string) => {
    const address = pool.take(podId);
    if (podId !== "stays") pool.free(address, podId);
    return address;
  };
  const turn = ["goes", "stays", "goes", "goes", "goes"].map(next);
  assert.equal(new Set(turn).size, 5);
  const [first, , third, fourth, fifth] = turn;
  assert.deepEqual(
    Array.from({ length: 5 }, () => next("goes")),
    [first, third, fourth, fifth, first],
  );
});
