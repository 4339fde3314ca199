/** What other programs, and crashes, do to the built-in network: the bridge deleted, nftables flushed, interfaces left. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import { native } from "../../native/binding.js";
import { tableName } from "../../sandbox/network/nftables.js";
import type { PortMapping } from "../../sandbox/network/provider.js";
import { openTestNetwork, type TestNetwork, until } from "../support/built-in-network.js";
import { askFromHost, startNamespace } from "../support/network-namespace.js";

const run = promisify(execFile);
let net: TestNetwork;
let table: string;
let web: PortMapping;

before(async () => {
  net = await openTestNetwork();
  table = tableName(net.slot.bridge);
  web = { protocol: "tcp", containerPort: 80, hostPort: 30000 + net.slot.number, hostIp: "" };
});
afterEach(() => net.removePods());
after(() => net.stop());

const restored = () => net.happenings.filter(({ type }) => type === "restored").length;

for (const [what, command] of [
  ["deletes the table", () => ["delete", "table", "inet", table]],
  ["flushes the table's rules", () => ["flush", "table", "inet", table]],
  ["flushes a map of the host ports", () => ["flush", "map", "inet", table, "any_address4"]],
] as const) {
  test(`another program ${what}: host ports of running pods lead to them again, without a further call`, async () => {
    const pod = await net.startPod([web]);
    await pod.serve(80);
    const [elements, rules, before] = [await net.portElements(), await net.rules(), restored()];
    await run("nft", command());
    await until(() => restored() > before, "the table is restored");
    assert.deepEqual([await net.portElements(), await net.rules()], [elements, rules]);
    assert.equal(await askFromHost("127.0.0.1", web.hostPort), net.gateway);
  });
}

test("a table that was deleted while no agent ran is there with the next one, with the ports that are held", async () => {
  const pod = await net.startPod([web]);
  await pod.serve(80);
  const elements = await net.portElements();
  net.network.close();
  await run("nft", ["delete", "table", "inet", table]);
  net.network = net.another();
  net.network.adopt(pod.id, pod.lease);
  await net.network.start();
  assert.equal(await net.portElements(), elements);
  assert.equal(await askFromHost("127.0.0.1", web.hostPort), net.gateway);
});

for (const [what, ...command] of [
  ["deleted", "link", "delete"],
  ["set down", "link", "set", "down"],
] as const) {
  test(`a bridge that was ${what} is there again, with its pods`, async () => {
    const [one, two] = [await net.startPod([web]), await net.startPod()];
    await one.serve(80);
    const before = restored();
    await run("busybox", ["ip", ...command, "dev", net.slot.bridge]);
    await until(() => restored() > before, "the bridge is restored");
    assert.equal(await two.ask(one.address, 80), two.address);
    assert.equal(await two.ask(one.address6, 80), two.address6);
    assert.equal(await askFromHost("127.0.0.1", web.hostPort), net.gateway);
    // hairpin
    assert.equal(await one.ask(net.gateway, web.hostPort), net.gateway);
  });
}

test("a pod CIDR that begins as the older one did is nothing that another program has done", async (t) => {
  t.after(() => net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`));
  const seen = net.happenings.length;
  const begun = () => net.happenings.slice(seen).flatMap((one) => (one.type === "restored" ? one.what : []));
  // the bridge's address is the same, with another prefix
  await net.network.setPodCidr(net.slot.subnet.replace("/24", "/25"));
  await run("nft", ["delete", "table", "inet", table]);
  await until(() => begun().some((what) => what.startsWith("table")), "the table is restored");
  assert.deepEqual(begun(), [`table ${table}`]);
});

test("a bridge that is deleted while pods are attached: all of them get their network", async () => {
  const starting = Promise.all(Array.from({ length: 24 }, () => net.startPod()));
  let isOver = false;
  const over = starting.finally(() => {
    isOver = true;
  });
  // fewer than the tries that an attachment has
  let deletions = 0;
  const delete_ = async () => {
    while (!isOver && deletions < 4) {
      await until(() => isOver || net.pods.some(isPort), "one is attached");
      await native.deleteLink(net.slot.bridge);
      deletions++;
    }
  };
  const [pods] = await Promise.all([over, delete_()]);
  assert.ok(deletions > 0);
  await until(() => pods.every(isPort), "all are ports of the bridge");
  await pods[0]?.serve(80);
  for (const pod of pods.slice(1)) assert.equal(await pod.ask(pods[0]?.address ?? "", 80), pod.address);
});

const isPort = ({ lease }: { lease: { hostInterface: string } }) =>
  existsSync(`/sys/class/net/${net.slot.bridge}/brif/${lease.hostInterface}`);

for (const [what, command] of [
  ["taken out of the bridge", (port: string) => ["link", "set", port, "nomaster"]],
  ["set down", (port: string) => ["link", "set", port, "down"]],
] as const) {
  test(`a pod's port that was ${what} is there again`, async () => {
    const [one, two] = [await net.startPod([web]), await net.startPod()];
    await one.serve(80);
    const before = restored();
    await run("ip", command(one.lease.hostInterface));
    await until(() => restored() > before, "the port is restored");
    assert.equal(await two.ask(one.address, 80), two.address);
    assert.equal(await one.ask(net.gateway, web.hostPort), net.gateway);
  });
}

test("a pod's interface that was deleted is there again: with its name, its MAC, its addresses, its ways, and its limits", async () => {
  const limits = { "kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "1G" };
  const [one, two] = [await net.startPod([web], limits), await net.startPod()];
  await one.serve(80);
  const look = async () =>
    (await one.run("ip", "-o", "address", "show", "dev", "eth0")).replace(/^\d+|@if\d+|tentative/gm, "") +
    (await one.run("ip", "route")) +
    (await one.run("ip", "-6", "route")) +
    (await one.run("cat", "/sys/class/net/eth0/address").catch(() => "")) +
    (await run("tc", ["qdisc", "show", "dev", one.lease.hostInterface])).stdout;
  const before = await look();
  const given = () => net.happenings.filter((one) => one.type === "restored" && one.what === "interface").length;
  await native.deleteLink(one.lease.hostInterface);
  await until(() => given() === 1, "the interface is restored");
  assert.equal(await look(), before);
  assert.equal(await two.ask(one.address, 80), two.address);
  assert.equal(await two.ask(one.address6, 80), two.address6);
  assert.equal(await askFromHost("127.0.0.1", web.hostPort), net.gateway);
  // by the pod itself, and while no agent runs
  await one.run("ip", "link", "delete", "eth0");
  net.network.close();
  net.network = net.another();
  for (const { id, lease } of net.pods) net.network.adopt(id, lease);
  await net.network.start();
  await until(
    async () => (await two.ask(one.address, 80)) === two.address,
    "the interface is there with the next agent",
  );
  // one whose namespace has gone is nobody's to make again
  const after = given();
  const gone = two.lease.hostInterface;
  await two.stop();
  await until(() => native.linkIndex(gone) === 0, "the kernel has taken it away");
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  assert.equal(native.linkIndex(gone), 0);
  assert.equal(given(), after);
  (net.pods as unknown[]).splice(net.pods.indexOf(two), 1);
  await net.network.detach(two.id, two.lease, { namespaceGone: true });
});

test("the bridge's addresses are there again, also those that pods of an older subnet need", async () => {
  const old = await net.startPod();
  await old.serve(80);
  const cidrs = [`10.246.${net.slot.number}.0/24`, `fd00:d:${net.slot.number}::/64`];
  try {
    await net.network.setPodCidr(cidrs.join(","));
    const pod = await net.startPod();
    await pod.serve(80);
    const flush = ["address", "flush", "dev", net.slot.bridge];
    for (const command of [flush, ["link", "delete", net.slot.bridge]]) {
      const before = restored();
      await run("ip", command);
      await until(() => restored() > before, "the bridge is restored");
      for (const { address, address6, lease } of [old, pod]) {
        assert.equal(await askFromHost(address, 80), lease.gateways[0]);
        assert.equal(await askFromHost(address6, 80), lease.gateways[1]);
      }
    }
  } finally {
    await net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`);
    rmSync(net.cidrPath);
  }
});

test("a subnet goes from the bridge with its last pod, and others' addresses stay on it", async () => {
  const addresses = async () => (await run("ip", ["-o", "address", "show", "dev", net.slot.bridge])).stdout;
  const [older, other] = [`10.246.${net.slot.number}`, `10.245.${net.slot.number}.9/32`];
  await run("ip", ["address", "add", other, "dev", net.slot.bridge]);
  try {
    await net.network.setPodCidr(`${older}.0/24`);
    const pod = await net.startPod();
    await net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`);
    assert.match(await addresses(), new RegExp(` ${older}.1/24 `));
    await net.stopPod(pod);
    await until(async () => !(await addresses()).includes(older), "the address goes");
    assert.match(await addresses(), new RegExp(` ${other} `));
    assert.equal((await run("nft", ["list", "set", "inet", table, "subnets4"])).stdout.includes(older), false);
    // one that no pod has come to goes at once
    await net.network.setPodCidr(`${older}.0/24`);
    await net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`);
    assert.doesNotMatch(await addresses(), new RegExp(older));
    // one that was the node's when no agent ran
    await native.ensureBridge({ name: net.slot.bridge, addresses: [`${older}.1/24`], mtu: 1500 });
    net.network.close();
    net.network = net.another();
    await net.network.start();
    assert.doesNotMatch(await addresses(), new RegExp(older));
    assert.match(await addresses(), new RegExp(` ${other} `));
  } finally {
    await run("ip", ["address", "delete", other, "dev", net.slot.bridge]);
    rmSync(net.cidrPath, { force: true });
  }
});

test("a bridge that went while no agent ran is made by the next one, with its pods", async () => {
  const [one, two] = [await net.startPod(), await net.startPod()];
  await one.serve(80);
  net.network.close();
  await native.deleteLink(net.slot.bridge);
  net.network = net.another();
  for (const { id, lease } of net.pods) net.network.adopt(id, lease);
  await net.network.start();
  assert.equal(await two.ask(one.address, 80), two.address);
});

test("an interface of a pod that no record knows goes at the start; ports of such a pod, too", async () => {
  const kept = await net.startPod();
  const lost = await net.startPod([web]);
  await kept.serve(80);
  net.network.close();
  net.network = net.another();
  net.network.adopt(kept.id, kept.lease);
  await net.network.start();
  assert.ok(!existsSync(`/sys/class/net/${lost.lease.hostInterface}`));
  assert.equal(await net.portElements(), 0);
  assert.equal(await askFromHost(kept.address, 80), net.gateway);
});

test("an address is free when the pod's interface is gone, not before", async () => {
  const pod = await net.startPod();
  const inUse = () => net.network.describe()["addressesInUse"];
  // somebody else keeps the namespace
  const descriptor = native.openPath(`/proc/${pod.pid}/ns/net`);
  try {
    await net.stopPod(pod);
    assert.ok(existsSync(`/sys/class/net/${pod.lease.hostInterface}`));
    assert.equal(inUse(), 2);
    assert.equal(net.network.describe()["interfacesGoing"], 1);
  } finally {
    native.closeDescriptor(descriptor);
  }
  await until(() => inUse() === 0, "the addresses are free");
  assert.equal(net.network.describe()["interfacesGoing"], 0);
});

test("the next agent does not give again what was freed just now", async () => {
  const pod = await net.startPod();
  await net.stopPod(pod);
  // written a second late
  const last = `${net.slot.subnet}":"${pod.address}"`;
  await until(() => existsSync(net.positionsPath) && readFileSync(net.positionsPath, "utf8").includes(last), "kept");
  net.network.close();
  net.network = net.another();
  await net.network.start();
  const next = await net.startPod();
  assert.notEqual(next.address, pod.address);
  assert.notEqual(next.address6, pod.address6);
});

test("a namespace that somebody keeps: what is pending is told, and taken away when it is asked for", async () => {
  const namespace = await startNamespace();
  const id = randomBytes(32).toString("hex");
  const lease = net.network.reserve(id);
  await net.network.attach(id, lease, { namespaceFd: namespace.fd });
  await net.network.detach(id, lease, { namespaceGone: true });
  try {
    const [pending] = net.network.pendingRemovals();
    assert.deepEqual([pending?.podId, pending?.network], [id, net.slot.bridge]);
    await net.network.cleanUp();
    assert.deepEqual(net.network.pendingRemovals(), []);
    assert.ok(!existsSync(`/sys/class/net/${lease.hostInterface}`));
    assert.equal(net.network.describe()["addressesInUse"], 0);
  } finally {
    await namespace.stop();
  }
});
