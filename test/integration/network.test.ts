/** The built-in network against the real kernel, without an agent: namespaces of our own stand for pods. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { native } from "../../native/binding.js";
import { BuiltinNetwork, removeBuiltinNetwork } from "../../sandbox/network/builtin.js";
import { tableName } from "../../sandbox/network/nftables.js";
import type { NetworkLease, PortMapping } from "../../sandbox/network/provider.js";
import { askFromHost, startNamespace, type TestNamespace } from "../support/network-namespace.js";
import { claimSlot } from "../support/slot.js";

interface TestPod extends TestNamespace {
  id: string;
  lease: NetworkLease;
  address: string;
  address6: string;
}

const slot = claimSlot();
const state = mkdtempSync(join(tmpdir(), "berth-network-"));
const gateway = `10.244.${slot.number}.1`;
const outsideGateway = `10.245.${slot.number}.1`;
const outsideAddress = `10.245.${slot.number}.2`;
let outside: TestNamespace;
let network: BuiltinNetwork;
const pods: TestPod[] = [];

function newNetwork(): BuiltinNetwork {
  return new BuiltinNetwork({
    addon: native,
    bridge: slot.bridge,
    subnets: [slot.subnet, slot.subnet6],
    cidrPath: join(state, "pod-cidr"),
  });
}

async function startPod(portMappings: PortMapping[] = []): Promise<TestPod> {
  const id = randomBytes(32).toString("hex");
  const lease = network.reserve(id, portMappings);
  const namespace = await startNamespace();
  const [address = "", address6 = ""] = lease.addresses.map((cidr) => cidr.split("/")[0] ?? "");
  const pod = Object.assign(namespace, { id, lease, address, address6 });
  pods.push(pod);
  await network.attach(id, lease, { namespaceFd: namespace.fd });
  return pod;
}

async function stopPod(pod: TestPod): Promise<void> {
  pods.splice(pods.indexOf(pod), 1);
  await pod.stop();
  await network.detach(pod.id, pod.lease, { namespaceGone: true });
}

/** Host interfaces of pods; the kernel takes them away a while after the namespace's end. */
async function leftInterfaces(leases: NetworkLease[]): Promise<string[]> {
  for (let tries = 0; ; tries++) {
    const left = leases.map((lease) => lease.hostInterface).filter((name) => existsSync(`/sys/class/net/${name}`));
    if (left.length === 0 || tries === 100) return left;
    await sleep(20);
  }
}

interface Listed {
  map?: { name: string; elem?: unknown[] };
  set?: { name: string; elem?: unknown[] };
  rule?: { chain: string };
}

async function listTable(): Promise<Listed[]> {
  const command = { list: { table: { family: "inet", name: tableName(slot.bridge) } } };
  const output = await native.runNftables(JSON.stringify({ nftables: [command] }));
  return (JSON.parse(output) as { nftables: Listed[] }).nftables;
}

async function portElements(): Promise<number> {
  const objects = (await listTable()).map((object) => object.map ?? object.set);
  return objects.reduce((sum, object) => {
    return sum + (object === undefined || object.name.startsWith("subnets") ? 0 : (object.elem?.length ?? 0));
  }, 0);
}

before(async () => {
  network = newNetwork();
  await network.start();
  assert.deepEqual({ ...network.status(), message: "" }, { ready: true, reason: "", message: "" });
  // a neighbour that has no way back to the pods' subnet
  await native.ensureBridge({ name: slot.outsideBridge, addresses: [`${outsideGateway}/24`], mtu: 1500 });
  outside = await startNamespace();
  await native.attachVeth({
    namespaceFd: outside.fd,
    bridge: slot.outsideBridge,
    hostName: `bto${randomBytes(6).toString("hex")}`,
    podName: "eth0",
    podMac: "",
    mtu: 1500,
    addresses: [`${outsideAddress}/24`],
    gateways: [],
  });
  await outside.serve(7000);
});

afterEach(async () => {
  const leases = pods.map((pod) => pod.lease);
  for (const pod of [...pods]) await stopPod(pod);
  assert.deepEqual(await leftInterfaces(leases), []);
  assert.equal(await portElements(), 0);
  assert.equal(network.describe()["addressesInUse"], 0);
  assert.equal(network.describe()["hostPortsInUse"], 0);
});

after(async () => {
  await outside.stop();
  await native.deleteLink(slot.outsideBridge);
  await removeBuiltinNetwork(native, slot.bridge);
  await removeBuiltinNetwork(native, slot.bridge);
  rmSync(state, { recursive: true, force: true });
  slot.release();
});

test("a pod has its addresses, its MAC and a loopback", async () => {
  const pod = await startPod();
  const addresses = await native.listAddresses({ namespaceFd: pod.fd });
  const own = addresses.filter(({ name, address }) => name === "eth0" && !address.startsWith("fe80:"));
  assert.deepEqual(
    own.map(({ address }) => address),
    pod.lease.addresses,
  );
  assert.ok(addresses.some(({ name, address }) => name === "lo" && address === "127.0.0.1/8"));
  assert.match(await pod.run("busybox", "ip", "link", "show", "eth0"), new RegExp(pod.lease.mac));
});

test("pods reach each other under their own addresses, IPv4 and IPv6", async () => {
  const [one, two] = [await startPod(), await startPod()];
  await two.serve(80);
  assert.equal(await one.ask(two.address, 80), one.address);
  assert.equal(await one.ask(two.address6, 80), one.address6);
});

test("a pod reaches the host, and the host reaches a pod", async () => {
  const pod = await startPod();
  await pod.serve(80);
  assert.equal(await askFromHost(pod.address, 80), gateway);
  const server = createServer((socket) => socket.end(String(socket.remoteAddress))).listen(0, gateway);
  await once(server, "listening");
  try {
    assert.equal(await pod.ask(gateway, (server.address() as { port: number }).port), pod.address);
  } finally {
    server.close();
  }
});

test("what leaves the node has the node's address", async () => {
  const pod = await startPod();
  assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
});

test("a host port leads to the pod: from 127.0.0.1, the host's addresses, a neighbour, a pod, and the pod itself", async () => {
  const hostPort = 30000 + slot.number;
  const pod = await startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  const other = await startPod();
  await pod.serve(80);
  assert.equal(await askFromHost("127.0.0.1", hostPort), gateway);
  assert.equal(await askFromHost(outsideGateway, hostPort), outsideGateway);
  assert.equal(await outside.ask(outsideGateway, hostPort), outsideAddress);
  assert.equal(await other.ask(gateway, hostPort), gateway);
  assert.equal(await pod.ask(gateway, hostPort), gateway);
  await stopPod(pod);
  assert.equal(await askFromHost("127.0.0.1", hostPort), "ECONNREFUSED");
});

test("a host port with a host address answers there only", async () => {
  const hostPort = 30000 + slot.number;
  const pod = await startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: outsideGateway }]);
  await pod.serve(80);
  assert.equal(await outside.ask(outsideGateway, hostPort), outsideAddress);
  assert.equal(await askFromHost("127.0.0.1", hostPort), "ECONNREFUSED");
});

test("UDP and SCTP ports have their rules, too", async () => {
  const hostPort = 30000 + slot.number;
  await startPod([
    { protocol: "udp", containerPort: 53, hostPort, hostIp: "" },
    { protocol: "sctp", containerPort: 53, hostPort, hostIp: "" },
  ]);
  // address, port and hairpin of two protocols in two families
  assert.equal(await portElements(), 12);
});

test("a table that somebody deleted is made again with the ports that are held", async () => {
  const hostPort = 30000 + slot.number;
  const first = await startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  await first.serve(80);
  await native.runNftables(
    JSON.stringify({ nftables: [{ delete: { table: { family: "inet", name: tableName(slot.bridge) } } }] }),
  );
  await startPod([{ protocol: "tcp", containerPort: 80, hostPort: hostPort + 128, hostIp: "" }]);
  assert.equal(await askFromHost("127.0.0.1", hostPort), gateway);
});

test("starting again changes nothing for running pods", async () => {
  const hostPort = 30000 + slot.number;
  const pod = await startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  await pod.serve(80);
  const rules = (await listTable()).filter((object) => object.rule !== undefined).length;
  const before = network;
  network = newNetwork();
  await network.start();
  network.adopt(pod.id, pod.lease);
  assert.equal((await listTable()).filter((object) => object.rule !== undefined).length, rules);
  assert.equal(await askFromHost("127.0.0.1", hostPort), gateway);
  assert.notEqual((await startPod()).address, pod.address);
  await before.detach(pod.id, pod.lease, { namespaceGone: true });
});

test("a new pod CIDR is for new pods; the older ones keep theirs and are reached", async () => {
  const old = await startPod();
  await old.serve(80);
  const cidr = `10.246.${slot.number}.0/24`;
  try {
    await network.setPodCidr(cidr);
    const pod = await startPod();
    assert.equal(pod.address, `10.246.${slot.number}.2`);
    assert.equal(await pod.ask(old.address, 80), pod.address);
    assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
    assert.equal(readFileSync(join(state, "pod-cidr"), "utf8"), `${cidr}\n`);
    const later = newNetwork();
    await later.start();
    assert.equal(later.reserve("later").addresses[0], `10.246.${slot.number}.2/24`);
  } finally {
    await network.setPodCidr(`${slot.subnet},${slot.subnet6}`);
    rmSync(join(state, "pod-cidr"));
  }
});

test("a pod CIDR within the subnet so far serves both", async () => {
  const old = await startPod();
  await old.serve(80);
  const cidr = `${old.address.split(".").slice(0, 2).join(".")}.200.0/24`;
  try {
    await network.setPodCidr(cidr);
    const pod = await startPod();
    assert.equal(pod.address, cidr.replace(/0\/24$/, "2"));
    assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
  } finally {
    await network.setPodCidr(`${slot.subnet},${slot.subnet6}`);
    rmSync(join(state, "pod-cidr"));
  }
});

test("an attach that fails leaves nothing", async () => {
  const hostPort = 30000 + slot.number;
  const pod = await startPod();
  const lease = network.reserve("second", [{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  // there is an eth0 already
  await assert.rejects(network.attach("second", lease, { namespaceFd: pod.fd }), /eth0|exists/i);
  assert.deepEqual(await leftInterfaces([lease]), []);
  assert.equal(await portElements(), 0);
  await network.detach("second", lease, { namespaceGone: false });
});

test("detach is done when the namespace lives on, and done twice", async () => {
  const pod = await startPod();
  await network.detach(pod.id, pod.lease, { namespaceGone: false });
  assert.ok(!existsSync(`/sys/class/net/${pod.lease.hostInterface}`));
  await network.detach(pod.id, pod.lease, { namespaceGone: false });
});

test("an agent that is killed at any moment of an attach leaves what its lease tells", async () => {
  const script = fileURLToPath(new URL("../support/attach-and-die.js", import.meta.url));
  const subnets = `${slot.subnet},${slot.subnet6}`;
  for (let round = 0; round < 12; round++) {
    const pod = await startNamespace();
    const id = randomBytes(32).toString("hex");
    const child = spawn(process.execPath, [script, slot.bridge, subnets, id, `/proc/${pod.pid}/ns/net`], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    await sleep(round / 4);
    child.kill("SIGKILL");
    await once(child, "close");
    const lease = JSON.parse(line.toString()) as NetworkLease;
    const next = newNetwork();
    await next.start();
    next.adopt(id, lease);
    await next.detach(id, lease, { namespaceGone: false });
    assert.ok(!existsSync(`/sys/class/net/${lease.hostInterface}`));
    assert.equal(await portElements(), 0);
    await pod.stop();
  }
});
