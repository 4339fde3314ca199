import assert from "node:assert/strict";
import { test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, UnavailableError } from "../errors.js";
import { Observer } from "../observer.js";
import { attachError, BuiltinNetwork, macOf, type NetworkAddon } from "./builtin.js";
import { defaultRouteInterface, defaultRoutes6 } from "./host-settings.js";

/** A host on which nothing works: what is tested here needs no kernel. */
const addon: NetworkAddon = {
  ensureBridge: () => Promise.reject(new Error("mkbridge: EPERM")),
  removeOlderAddresses: () => Promise.reject(new Error("not here")),
  attachVeth: () => Promise.reject(new Error("not here")),
  joinBridge: () => Promise.reject(new Error("not here")),
  deleteLink: () => Promise.reject(new Error("not here")),
  linkIndex: () => 0,
  listAddresses: () => Promise.reject(new Error("not here")),
  listRoutes: () => Promise.resolve([]),
  shapeLink: () => Promise.reject(new Error("not here")),
  forgetUdpFlows: () => Promise.reject(new Error("not here")),
  watchNetwork: () => ({ close() {} }),
  runNftables: () => Promise.reject(new Error("not here")),
  changeSetElements: () => Promise.reject(new Error("not here")),
  lockFile: () => {
    throw new Error("not here");
  },
  closeDescriptor: () => undefined,
  openPath: () => {
    throw new Error("not here");
  },
};

const observer = new Observer();
const podId = "0123456789abcdef".repeat(4);
const web = { protocol: "tcp" as const, containerPort: 80, hostPort: 8080, hostIp: "" };

function network(subnets: string[]): BuiltinNetwork {
  return new BuiltinNetwork({
    addon,
    bridge: "berth0",
    run: "/nonexistent",
    namespaceOf: () => "/nonexistent",
    subnets,
    cidrPath: "/nonexistent/pod-cidr",
    positionsPath: "/nonexistent/positions",
    observer,
  });
}

test("a lease has an address of each subnet, the primary one first", () => {
  assert.deepEqual(network(["10.88.0.0/16", "fd00::/64"]).reserve(podId, [web]), {
    provider: "builtin",
    interfaceName: "eth0",
    hostInterface: "bth0123456789ab",
    bridge: "berth0",
    mac: "0a:58:0a:58:00:02",
    addresses: ["10.88.0.2/16", "fd00::2/64"],
    gateways: ["10.88.0.1", "fd00::1"],
    portMappings: [web],
  });
});

test("a reservation that fails takes nothing", () => {
  const provider = network(["10.88.0.0/16", "fd00::/126"]);
  provider.reserve("a");
  provider.reserve("b");
  assert.throws(() => provider.reserve("c", [web]), ResourceExhaustedError);
  assert.equal(provider.describe()["addressesInUse"], 4);
  assert.equal(provider.describe()["hostPortsInUse"], 0);
});

test("a bridge whose ports are all taken is named", () => {
  const full = Object.assign(new Error("rtnetlink create veth: Exchange full"), { errnoName: "EXFULL" });
  const told = attachError(full, "berth0");
  assert.ok(told instanceof ResourceExhaustedError);
  assert.match(told.message, /^bridge berth0 is full: .* 1023 ports/);
  assert.equal(attachError(addon, "berth0"), addon);
});

test("an adopted pod keeps its addresses and its ports", () => {
  const provider = network(["10.88.0.0/16"]);
  const lease = network(["10.88.0.0/16"]).reserve(podId, [web]);
  provider.adopt(podId, lease);
  assert.throws(() => provider.reserve("other", [web]), FailedPreconditionError);
  assert.deepEqual(provider.reserve("other").addresses, ["10.88.0.3/16"]);
});

test("a lease of a subnet that the node no longer has is adopted, too", () => {
  const provider = network(["10.99.0.0/16"]);
  provider.adopt(podId, network(["10.99.0.0/24"]).reserve(podId));
  assert.deepEqual(provider.reserve("other").addresses, ["10.99.0.3/16"]);
});

test("subnets: one or two, of different families", () => {
  for (const subnets of [[], ["10.0.0.0/8", "11.0.0.0/8"], ["10.0.0.0/33"], ["10.0.0.0/31"]]) {
    assert.throws(() => network(subnets), InvalidArgumentError);
  }
});

test("a host address of a family that pods do not have is refused", () => {
  assert.throws(
    () => network(["10.88.0.0/16"]).reserve(podId, [{ ...web, hostIp: "2001:db8::1" }]),
    InvalidArgumentError,
  );
});

test("a limit of the bandwidth is in the lease; one that is malformed is refused, and nothing is taken", () => {
  const provider = network(["10.88.0.0/16"]);
  const annotations = (text: string) => ({ annotations: { "kubernetes.io/egress-bandwidth": text } });
  assert.deepEqual(provider.reserve(podId, [], annotations("1M")).bandwidth, {
    egress: 1e6,
    ifb: "btb0123456789ab",
  });
  assert.throws(() => provider.reserve("other", [web], annotations("fast")), /egress-bandwidth.*"fast" is no rate/);
  assert.equal(provider.describe()["addressesInUse"], 1);
  assert.equal(provider.describe()["hostPortsInUse"], 0);
});

test("a bridge that cannot be made leaves the network not ready, and says why", async () => {
  const provider = network(["10.88.0.0/16"]);
  await provider.start();
  const { reason, message } = await provider.status();
  assert.equal(reason, "NetworkNotReady");
  assert.match(message, /berth0 cannot be set up: mkbridge: EPERM/);
  await assert.rejects(provider.attach(podId, provider.reserve(podId), { namespaceFd: 0 }), UnavailableError);
});

test("a subnet that the host has a route for leaves the network not ready, and names the route; nothing is made", async () => {
  const route = { destination: "10.88.7.0/24", gateway: "192.0.2.1", interface: "eth1", table: 254 };
  const provider = new BuiltinNetwork({
    addon: { ...addon, listRoutes: () => Promise.resolve([route]) },
    bridge: "berth0",
    run: "/nonexistent",
    namespaceOf: () => "/nonexistent",
    subnets: ["10.88.0.0/16"],
    cidrPath: "/nonexistent/pod-cidr",
    positionsPath: "/nonexistent/positions",
    observer,
  });
  await provider.start();
  assert.match(
    (await provider.status()).message,
    /subnet 10\.88\.0\.0\/16 overlaps.* 10\.88\.7\.0\/24 via 192\.0\.2\.1 dev eth1$/,
  );
  await assert.rejects(provider.setPodCidr("10.88.7.0/25"), FailedPreconditionError);
  assert.deepEqual(provider.subnets(), ["10.88.0.0/16"]);
});

test("a MAC is made from the address", () => {
  assert.equal(macOf("10.88.1.255"), "0a:58:0a:58:01:ff");
  assert.equal(macOf("fd00::1:2"), "0a:58:00:01:00:02");
});

test("the uplink is the default route with the least metric", () => {
  const table = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0",
    "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0",
    "eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
  ].join("\n");
  assert.equal(defaultRouteInterface(table), "eth0");
  assert.equal(defaultRouteInterface(table.split("\n")[0] ?? ""), undefined);
});

test("IPv6 default routes: the least metric first, those that reject none, and which a router has advertised", () => {
  const zeros = "0".repeat(32);
  const line = (destination: string, length: string, metric: string, flags: string, name: string) =>
    `${destination} ${length} ${zeros} 00 fe800000000000000000000000000001 ${metric} 00000001 00000000 ${flags} ${name}`;
  const table = [
    line("fd000000000000000000000000000000", "40", "00000100", "00000001", "eth0"),
    line(zeros, "00", "00000400", "00450003", "eth1"),
    line(zeros, "00", "00000100", "00000003", "wg0"),
    line(zeros, "00", "ffffffff", "00200200", "lo"),
  ].join("\n");
  assert.deepEqual(defaultRoutes6(table), [
    { name: "wg0", advertised: false },
    { name: "eth1", advertised: true },
  ]);
  assert.deepEqual(defaultRoutes6(""), []);
});

test("a detach that the kernel refuses gives back what was taken, and done again takes nothing from the next pod", async () => {
  const documents: string[] = [];
  let broken = true;
  const failing: NetworkAddon = {
    ...addon,
    runNftables: (json) => {
      documents.push(json);
      return broken ? Promise.reject(new Error("nftables: EBUSY")) : Promise.resolve("");
    },
  };
  const provider = new BuiltinNetwork({
    addon: failing,
    bridge: "berth0",
    run: "/nonexistent",
    namespaceOf: () => "/nonexistent",
    subnets: ["10.88.0.0/30"],
    cidrPath: "/nonexistent/pod-cidr",
    positionsPath: "/nonexistent/positions",
    observer,
  });
  await provider.start();
  documents.length = 0;
  const old = network(["10.88.0.0/30"]).reserve("old", [web]);
  provider.adopt("old", old);
  await assert.rejects(provider.detach("old", old, { namespaceGone: true }), /EBUSY/);
  const lease = provider.reserve("new", [web]);
  assert.deepEqual(lease.addresses, old.addresses);

  broken = false;
  documents.length = 0;
  await provider.detach("old", old, { namespaceGone: true });
  assert.equal(documents.length, 1);
  assert.ok(!documents[0]?.includes("8080"), "the table is written whole, without the old pod's port");
  assert.throws(() => provider.reserve("third", []), ResourceExhaustedError);
  assert.throws(() => provider.reserve("third", [web]), FailedPreconditionError);
});
