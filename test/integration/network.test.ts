/** The built-in network against the real kernel, without an agent: namespaces of our own stand for pods. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { native } from "../../native/binding.js";
import type { NetworkLease } from "../../sandbox/network/provider.js";
import { leftInterfaces, openTestNetwork, type TestNetwork, until } from "../support/built-in-network.js";
import { askFromHost, startNamespace, type TestNamespace } from "../support/network-namespace.js";

const run = promisify(execFile);
let net: TestNetwork;
let gateway: string;
let outsideGateway: string;
let outsideAddress: string;
let outsideGateway6: string;
let outsideAddress6: string;
let outside: TestNamespace;
let hostPort: number;

before(async () => {
  net = await openTestNetwork();
  gateway = net.gateway;
  hostPort = 30000 + net.slot.number;
  // a neighbour that has no way back to the pods' subnet
  outsideGateway = `10.245.${net.slot.number}.1`;
  outsideAddress = `10.245.${net.slot.number}.2`;
  outsideGateway6 = `fd00:c:${(net.slot.number + 1).toString(16)}::1`;
  outsideAddress6 = `fd00:c:${(net.slot.number + 1).toString(16)}::2`;
  const gateways = [`${outsideGateway}/24`, `${outsideGateway6}/64`];
  await native.ensureBridge({ name: net.slot.outsideBridge, addresses: gateways, mtu: 1500 });
  outside = await startNamespace();
  await native.attachVeth({
    namespaceFd: outside.fd,
    bridge: net.slot.outsideBridge,
    hostName: `bto${randomBytes(6).toString("hex")}`,
    podName: "eth0",
    podMac: "",
    mtu: 1500,
    addresses: [`${outsideAddress}/24`, `${outsideAddress6}/64`],
    gateways: [],
  });
  await outside.serve(7000);
});

afterEach(() => net.removePods());

after(async () => {
  await outside.stop();
  await native.deleteLink(net.slot.outsideBridge);
  await net.stop();
});

test("a pod has its addresses, its MAC and a loopback", async () => {
  const pod = await net.startPod();
  const addresses = await native.listAddresses({ namespaceFd: pod.fd });
  const own = addresses.filter(({ name, address }) => name === "eth0" && !address.startsWith("fe80:"));
  assert.deepEqual(
    own.map(({ address }) => address),
    pod.lease.addresses,
  );
  assert.ok(addresses.some(({ name, address }) => name === "lo" && address === "127.0.0.1/8"));
  assert.match(await pod.run("busybox", "ip", "link", "show", "eth0"), new RegExp(pod.lease.mac));
});

test("neither the host nor a pod goes by what a pod says of routers", async () => {
  const pod = await net.startPod();
  const file = (name: string) => `/proc/sys/net/ipv6/conf/${name}/accept_ra`;
  assert.equal((await pod.run("cat", file("eth0"))).trim(), "0");
  assert.equal(readFileSync(file(net.slot.bridge), "utf8").trim(), "0");
});

test("a new pod and the host know each other: neither need ask all ports first", async () => {
  const { lease, address, address6, run: inPod } = await net.startPod();
  const { bridge } = net.slot;
  const mac = readFileSync(`/sys/class/net/${bridge}/address`, "utf8").trim();
  for (const gateway of lease.gateways) {
    assert.match(await inPod("ip", "neigh", "show", gateway), new RegExp(`^${gateway} dev eth0 lladdr ${mac} .*STALE`));
  }
  for (const own of [address, address6]) {
    const { stdout } = await run("ip", ["neigh", "show", own, "dev", bridge]);
    assert.match(stdout, new RegExp(`^${own} lladdr ${lease.mac} `));
  }
});

test("a pod tells others once of a multicast group that it joins, and gets what another pod sends to it", async () => {
  const [one, two] = [await net.startPod(), await net.startPod()];
  const interval = "/proc/sys/net/ipv6/conf/eth0/mldv2_unsolicited_report_interval";
  // a repetition comes within it: a day
  assert.equal((await one.run("cat", interval)).trim(), "86400000");
  const node = (script: string) => ["timeout", "30", process.execPath, "-e", script] as const;
  const answer = `const socket = require("dgram").createSocket("udp6");
    socket.on("message", (text, from) => socket.send(text, from.port, from.address, () => process.exit()));
    socket.bind(5353, () => socket.addMembership("ff05::1:5", "::%eth0"));`;
  const ask = `const socket = require("dgram").createSocket("udp6");
    socket.on("message", (text, { address }) => { process.stdout.write(text + " " + address); process.exit(); });
    socket.bind(() => {
      socket.setMulticastInterface("::%eth0");
      setInterval(() => socket.send("hello", 5353, "ff05::1:5"), 50);
    });`;
  const [answered] = await Promise.all([two.run(...node(ask)), one.run(...node(answer))]);
  assert.equal(answered, `hello ${one.address6}`);
});

test("the host's end of a pod has no routes, which would be looked at for each pod that comes", async () => {
  const { lease } = await net.startPod();
  const { stdout } = await run("ip", ["-6", "route", "show", "table", "all", "dev", lease.hostInterface]);
  assert.equal(stdout, "");
});

test("pods reach each other under their own addresses, IPv4 and IPv6", async () => {
  const [one, two] = [await net.startPod(), await net.startPod()];
  await two.serve(80);
  assert.equal(await one.ask(two.address, 80), one.address);
  assert.equal(await one.ask(two.address6, 80), one.address6);
});

test("a pod reaches the host, and the host reaches a pod", async () => {
  const pod = await net.startPod();
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
  const pod = await net.startPod();
  assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
  assert.equal(await pod.ask(outsideAddress6, 7000), outsideGateway6);
});

test("a host port leads to the pod by IPv6, too: from the host, a neighbour, and the pod itself; not from ::1", async () => {
  const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  await pod.serve(80);
  assert.equal(await askFromHost(outsideGateway6, hostPort), outsideGateway6);
  assert.equal(await outside.ask(outsideGateway6, hostPort), outsideAddress6);
  const gateway6 = pod.lease.gateways[1] ?? "";
  assert.equal(await pod.ask(gateway6, hostPort), gateway6);
  assert.equal(await askFromHost("::1", hostPort), "ECONNREFUSED");
});

test("a host port with an IPv6 host address answers there only", async () => {
  const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: outsideGateway6 }]);
  await pod.serve(80);
  assert.equal(await outside.ask(outsideGateway6, hostPort), outsideAddress6);
  assert.equal(await outside.ask(outsideGateway, hostPort), "ECONNREFUSED");
  assert.equal(await askFromHost(pod.lease.gateways[1] ?? "", hostPort), "ECONNREFUSED");
});

test("a host port leads to the pod: from 127.0.0.1, the host's addresses, a neighbour, a pod, and the pod itself", async () => {
  const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  const other = await net.startPod();
  await pod.serve(80);
  assert.equal(await askFromHost("127.0.0.1", hostPort), gateway);
  assert.equal(await askFromHost(outsideGateway, hostPort), outsideGateway);
  assert.equal(await outside.ask(outsideGateway, hostPort), outsideAddress);
  assert.equal(await other.ask(gateway, hostPort), gateway);
  assert.equal(await pod.ask(gateway, hostPort), gateway);
  await net.stopPod(pod);
  assert.equal(await askFromHost("127.0.0.1", hostPort), "ECONNREFUSED");
});

test("a host port with a host address answers there only", async () => {
  const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: outsideGateway }]);
  await pod.serve(80);
  assert.equal(await outside.ask(outsideGateway, hostPort), outsideAddress);
  assert.equal(await askFromHost("127.0.0.1", hostPort), "ECONNREFUSED");
});

test("UDP and SCTP ports have their rules, too", async () => {
  await net.startPod([
    { protocol: "udp", containerPort: 53, hostPort, hostIp: "" },
    { protocol: "sctp", containerPort: 53, hostPort, hostIp: "" },
  ]);
  // address, port and hairpin of two protocols in two families
  assert.equal(await net.portElements(), 12);
});

test("starting again changes nothing for running pods", async () => {
  const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  await pod.serve(80);
  const rules = await net.rules();
  const before = net.network;
  before.close();
  net.network = net.another();
  net.network.adopt(pod.id, pod.lease);
  await net.network.start();
  assert.equal(await net.rules(), rules);
  assert.equal(await askFromHost("127.0.0.1", hostPort), gateway);
  assert.notEqual((await net.startPod()).address, pod.address);
});

test("a new pod CIDR is for new pods; the older ones keep theirs and are reached", async () => {
  const old = await net.startPod();
  await old.serve(80);
  const cidr = `10.246.${net.slot.number}.0/24`;
  try {
    await net.network.setPodCidr(cidr);
    const pod = await net.startPod();
    assert.equal(pod.address, `10.246.${net.slot.number}.2`);
    assert.equal(await pod.ask(old.address, 80), pod.address);
    assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
    assert.equal(readFileSync(net.cidrPath, "utf8"), `${cidr}\n`);
    net.network.close();
    net.network = net.another();
    for (const { id, lease } of net.pods) net.network.adopt(id, lease);
    await net.network.start();
    assert.equal((await net.startPod()).address, `10.246.${net.slot.number}.3`);
  } finally {
    await net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`);
    rmSync(net.cidrPath);
  }
});

test("a pod CIDR within the subnet so far serves both", async () => {
  const old = await net.startPod();
  await old.serve(80);
  const cidr = `${old.address.split(".").slice(0, 2).join(".")}.200.0/24`;
  try {
    await net.network.setPodCidr(cidr);
    const pod = await net.startPod();
    assert.equal(pod.address, cidr.replace(/0\/24$/, "2"));
    assert.equal(await pod.ask(outsideAddress, 7000), outsideGateway);
  } finally {
    await net.network.setPodCidr(`${net.slot.subnet},${net.slot.subnet6}`);
    rmSync(net.cidrPath);
  }
});

test("a route of the host for a part of the subnet leaves the network not ready, until it is gone", async () => {
  const route = [`10.244.${net.slot.number}.128/25`, "dev", net.slot.outsideBridge];
  net.network.close();
  net.network = net.another();
  await run("busybox", ["ip", "route", "add", ...route]);
  try {
    await net.network.start();
    assert.match((await net.network.status()).message, new RegExp(`overlaps the host's route ${route.join(" ")}$`));
  } finally {
    await run("busybox", ["ip", "route", "del", ...route]);
  }
  // without a pod that would have it tried: the kubelet sends none to a node that is not ready
  await until(async () => (await net.network.status()).ready, "the network is ready");
});

test("an attach that fails leaves nothing", async () => {
  const pod = await net.startPod();
  const lease = net.network.reserve("second", [{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  // there is an eth0 already
  await assert.rejects(net.network.attach("second", lease, { namespaceFd: pod.fd }), /eth0|exists/i);
  assert.deepEqual(await leftInterfaces([lease]), []);
  assert.equal(await net.portElements(), 0);
  await net.network.detach("second", lease, { namespaceGone: false });
});

test("detach is done when the namespace lives on, and done twice", async () => {
  const pod = await net.startPod();
  await net.network.detach(pod.id, pod.lease, { namespaceGone: false });
  assert.ok(!existsSync(`/sys/class/net/${pod.lease.hostInterface}`));
  await net.network.detach(pod.id, pod.lease, { namespaceGone: false });
});

test("an agent that is killed at any moment of an attach leaves what its lease tells", async () => {
  const script = fileURLToPath(new URL("../support/attach-and-die.js", import.meta.url));
  const subnets = `${net.slot.subnet},${net.slot.subnet6}`;
  net.network.close();
  for (let round = 0; round < 12; round++) {
    const pod = await startNamespace();
    const id = randomBytes(32).toString("hex");
    const words = [net.slot.bridge, subnets, id, `/proc/${pod.pid}/ns/net`, net.positionsPath];
    const child = spawn(process.execPath, [script, ...words], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    await sleep(round / 4);
    child.kill("SIGKILL");
    await once(child, "close");
    const lease = JSON.parse(line.toString()) as NetworkLease;
    const next = net.another();
    next.adopt(id, lease);
    await next.start();
    await next.detach(id, lease, { namespaceGone: false });
    next.close();
    assert.ok(!existsSync(`/sys/class/net/${lease.hostInterface}`));
    assert.equal(await net.portElements(), 0);
    await pod.stop();
  }
  net.network = net.another();
  await net.network.start();
});
