import assert from "node:assert/strict";
import { test } from "node:test";
import { InternalError } from "../../errors.js";
import { convertResult, readResult } from "./result.js";

const current = {
  cniVersion: "1.1.0",
  interfaces: [{ name: "cni0" }, { name: "eth0", mac: "0a:58:0a:01:02:03", sandbox: "/run/netns/x", mtu: 1400 }],
  ips: [
    { address: "10.1.2.3/24", gateway: "10.1.2.1", interface: 1 },
    { address: "fd00::3/64", interface: 1 },
  ],
  routes: [{ dst: "0.0.0.0/0", gw: "10.1.2.1" }, { dst: "::/0" }],
  dns: { nameservers: ["10.1.2.2"] },
};

test("every version says the same", () => {
  for (const version of ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]) {
    const converted = convertResult(current, version);
    assert.equal(converted.cniVersion, version);
    assert.deepEqual(readResult(converted).ips, current.ips, version);
    assert.deepEqual(readResult(converted).interfaces, current.interfaces, version);
    assert.deepEqual(readResult(converted).routes, current.routes, version);
  }
  for (const version of ["0.1.0", "0.2.0"]) {
    const { ips, routes, dns } = readResult(convertResult(current, version));
    assert.deepEqual(ips, [{ address: "10.1.2.3/24", gateway: "10.1.2.1" }, { address: "fd00::3/64" }]);
    assert.deepEqual([routes, dns], [current.routes, current.dns]);
  }
});

test("before 1.0 an address tells its family", () => {
  const { ips } = convertResult(current, "0.3.1") as { ips: { version: string }[] };
  assert.deepEqual(
    ips.map(({ version }) => version),
    ["4", "6"],
  );
  assert.ok(!("version" in ((convertResult(current, "1.0.0").ips as object[])[0] ?? {})));
});

test("a result in the wanted version stays as the plugin wrote it", () => {
  const own = { ...current, extra: { vendor: true } };
  assert.equal(convertResult(own, "1.1.0"), own);
});

for (const [what, result, sentence] of [
  ["an address without a length", { ips: [{ address: "10.1.2.3" }] }, /ips\[0\]\.address: "10\.1\.2\.3"/],
  ["an address that is none", { ips: [{ address: "10.1.2.300/24" }] }, /ips\[0\]\.address/],
  ["a length that is none", { ips: [{ address: "10.1.2.3/33" }] }, /ips\[0\]\.address/],
  ["no address", { ips: [{}] }, /ips\[0\]\.address is undefined/],
  ["a gateway that is none", { ips: [{ address: "10.1.2.3/24", gateway: "x" }] }, /ips\[0\]\.gateway/],
  ["addresses that are no list", { ips: {} }, /ips is no list/],
  ["an interface that is none", { interfaces: [null] }, /interfaces is no object|interfaces\[0\] is no object/],
  ["a MAC that is a number", { interfaces: [{ name: "eth0", mac: 7 }] }, /interfaces\[0\]\.mac is 7/],
  ["an address with leading zeros", { ips: [{ address: "010.1.2.3/24" }] }, /ips\[0\]\.address/],
  ["an interface without a name", { interfaces: [{}] }, /interfaces\[0\]\.name/],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => readResult(result),
      (error) => error instanceof InternalError && sentence.test(error.message),
    );
  });
}
