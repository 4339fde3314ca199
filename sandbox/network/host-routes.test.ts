import assert from "node:assert/strict";
import { test } from "node:test";
import { findOverlaps, formatRoute } from "./host-routes.js";

const route = (destination: string, name = "eth0", table = 254) => ({
  destination,
  gateway: "",
  interface: name,
  table,
});

const cases: [what: string, destination: string, found: boolean[]][] = [
  ["the same", "10.88.0.0/16", [true]],
  ["a part of it", "10.88.3.0/24", [true]],
  ["one address of it", "10.88.3.7/32", [true]],
  ["more than it", "10.0.0.0/8", [false]],
  ["another", "10.89.0.0/16", []],
  ["the default route", "0.0.0.0/0", []],
  ["IPv6, the same", "fd00:88::/64", [true]],
  ["IPv6, another", "fd00:89::/64", []],
  ["IPv6, the default route", "::/0", []],
];

for (const [what, destination, found] of cases) {
  test(`a route for ${what}`, () => {
    const overlaps = findOverlaps(["10.88.0.0/16", "fd00:88::/64"], "berth0", [route(destination)]);
    assert.deepEqual(
      overlaps.map(({ within }) => within),
      found,
    );
  });
}

test("the bridge's own routes, and those of other tables, are none of it", () => {
  const routes = [route("10.88.0.0/16", "berth0"), route("10.88.0.0/16", "eth0", 100)];
  assert.deepEqual(findOverlaps(["10.88.0.0/16"], "berth0", routes), []);
});

test("a route is told as ip tells it", () => {
  assert.equal(formatRoute(route("10.88.0.0/16")), "10.88.0.0/16 dev eth0");
  assert.equal(formatRoute({ ...route("10.0.0.0/8", ""), gateway: "192.0.2.1" }), "10.0.0.0/8 via 192.0.2.1");
});
