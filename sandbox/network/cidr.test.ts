import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "../errors.js";
import {
  contains,
  formatAddress,
  formatSubnet,
  isUnicast,
  lastAddress,
  parseAddress,
  parseCidr,
  withoutContained,
} from "./cidr.js";

test("addresses come back in their one spelling", () => {
  const spellings = {
    "10.88.0.1": "10.88.0.1",
    "255.255.255.255": "255.255.255.255",
    "::": "::",
    "::1": "::1",
    "1::": "1::",
    "FD00:0:0:0:0:0:0:000a": "fd00::a",
    "2001:db8:0:1:0:0:0:1": "2001:db8:0:1::1",
    "::ffff:10.88.0.1": "::ffff:10.88.0.1",
  };
  for (const [text, expected] of Object.entries(spellings)) assert.equal(formatAddress(parseAddress(text)), expected);
});

test("a subnet has its host bits cleared", () => {
  assert.equal(formatSubnet(parseCidr("10.88.3.7/16")), "10.88.0.0/16");
  assert.equal(formatSubnet(parseCidr("fd00::5/64")), "fd00::/64");
  assert.equal(formatSubnet(parseCidr("10.0.0.1/32")), "10.0.0.1/32");
  assert.equal(formatSubnet(parseCidr("10.0.0.1/0")), "0.0.0.0/0");
  assert.equal(formatAddress({ family: 4, value: lastAddress(parseCidr("10.88.0.0/16")) }), "10.88.255.255");
});

test("a subnet contains its own addresses only", () => {
  const cidr = parseCidr("10.88.0.0/24");
  assert.ok(contains(cidr, parseAddress("10.88.0.255")));
  assert.ok(!contains(cidr, parseAddress("10.88.1.0")));
  assert.ok(!contains(cidr, parseAddress("::10.88.0.1")));
});

test("what is not a subnet or an address is refused by name", () => {
  for (const text of [
    "",
    "10.88.0.0",
    "10.88.0.0/33",
    "10.88.0/24",
    "fd00::/129",
    "a/8",
    "10.0.0.0/-1",
    "fe80::1%eth0/64",
  ]) {
    assert.throws(
      () => parseCidr(text),
      (error) => error instanceof InvalidArgumentError && error.message.includes('"'),
    );
  }
  assert.throws(() => parseAddress("fe80::1%eth0"), InvalidArgumentError);
});

test("subnets that lie in another one are left out", () => {
  assert.deepEqual(withoutContained(["10.97.0.0/16", "10.97.64.0/24", "10.98.0.0/24", "fd00::/64", "10.98.0.0/24"]), [
    "10.97.0.0/16",
    "10.98.0.0/24",
    "fd00::/64",
  ]);
});

test("an address that one machine can have", () => {
  for (const text of [
    "10.0.0.0/32",
    "192.0.2.1/24",
    "223.255.255.255/8",
    "240.1.0.2/16",
    "fd00::1/64",
    "::ffff:10.0.0.1/120",
  ]) {
    assert.ok(isUnicast(text), text);
  }
  for (const text of [
    "0.0.0.0/0",
    "127.0.0.1/8",
    "224.0.0.1/4",
    "255.255.255.255/32",
    "::/0",
    "::1/128",
    "ff02::1/64",
  ]) {
    assert.ok(!isUnicast(text), text);
  }
});
