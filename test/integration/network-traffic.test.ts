/** What the built-in network does to traffic: limits of the bandwidth, and UDP flows that were there before their port. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { openTestNetwork, type TestNetwork, type TestPod } from "../support/built-in-network.js";

const run = promisify(execFile);
let net: TestNetwork;

before(async () => {
  net = await openTestNetwork();
});
afterEach(() => net.removePods());
after(() => net.stop());

const megabyte = 1 << 20;

/** A program in the pod, until it has printed something. */
async function startInPod(pod: TestPod, script: string, ...args: string[]): Promise<void> {
  const child = spawn("nsenter", [`--net=/proc/${pod.pid}/ns/net`, process.execPath, "-e", script, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const stop = pod.stop;
  pod.stop = async () => {
    child.kill("SIGKILL");
    await stop();
  };
  await once(child.stdout, "data");
}

/** Seconds until a megabyte has come. */
async function receive(port: number, address: string): Promise<number> {
  const begun = performance.now();
  let bytes = 0;
  for await (const chunk of createConnection(port, address)) bytes += (chunk as Buffer).length;
  assert.equal(bytes, megabyte);
  return (performance.now() - begun) / 1000;
}

const sender = `require("node:net").createServer((socket) => socket.end(Buffer.alloc(${megabyte})))
  .listen(80, () => process.stdout.write("ready"));`;
const receiver = `const begun = performance.now(); let bytes = 0;
  require("node:net").connect(Number(process.argv[2]), process.argv[1])
    .on("data", (chunk) => { bytes += chunk.length; })
    .on("end", () => console.log(JSON.stringify({ bytes, seconds: (performance.now() - begun) / 1000 })));`;
test("what a pod sends and receives is as slow as its annotations say, and nothing of the limits is left", async () => {
  // a megabyte takes 1.05 s, less what the bucket holds; without a limit it takes some milliseconds
  const [rate, least] = ["8M", 0.9];
  const pod = await net.startPod([], {
    "kubernetes.io/ingress-bandwidth": rate,
    "kubernetes.io/egress-bandwidth": rate,
  });
  await startInPod(pod, sender);
  const fromPod = await receive(80, pod.address);
  assert.ok(fromPod >= least, `a megabyte came from the pod in ${fromPod} s`);

  const server = createServer((socket) => socket.end(Buffer.alloc(megabyte))).listen(0, net.gateway);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const answer = await pod.run(process.execPath, "-e", receiver, net.gateway, String(port));
  server.close();
  const toPod = JSON.parse(answer) as { bytes: number; seconds: number };
  assert.equal(toPod.bytes, megabyte);
  assert.ok(toPod.seconds >= least, `a megabyte came to the pod in ${toPod.seconds} s`);

  const { hostInterface, bandwidth } = pod.lease;
  const { stdout } = await run("tc", ["qdisc", "show", "dev", hostInterface]);
  assert.match(stdout, /qdisc tbf 1: root .*rate 8Mbit/);
  assert.ok(existsSync(`/sys/class/net/${bandwidth?.ifb}`));
  await net.stopPod(pod);
  assert.ok(!existsSync(`/sys/class/net/${bandwidth?.ifb}`));
});

test("the interface of a limit goes with a lost pod, and at the start of the next agent", async () => {
  const lost = await net.startPod([], { "kubernetes.io/egress-bandwidth": "1G" });
  const kept = await net.startPod([], { "kubernetes.io/egress-bandwidth": "1G" });
  net.network.close();
  net.network = net.another();
  net.network.adopt(kept.id, kept.lease);
  await net.network.start();
  assert.ok(!existsSync(`/sys/class/net/${lost.lease.bandwidth?.ifb}`));
  assert.ok(existsSync(`/sys/class/net/${kept.lease.bandwidth?.ifb}`));
});

const udpServer = `const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", (_, { port, address }) => socket.send(process.argv[1], port, address));
  socket.bind(53, () => process.stdout.write("ready"));`;

test("who sent to a UDP port before reaches the pod that has it now", async () => {
  const mapping = { protocol: "udp" as const, containerPort: 53, hostPort: 30000 + net.slot.number, hostIp: "" };
  // one flow all the time: the kernel knows it from its first packet on
  const socket = createSocket("udp4");
  const answers: string[] = [];
  socket.on("message", (message) => answers.push(message.toString()));
  const send = () =>
    new Promise<void>((resolve, reject) =>
      socket.send("?", mapping.hostPort, net.gateway, (error) => (error ? reject(error) : resolve())),
    );
  const untilAnswered = async (expected: string): Promise<void> => {
    for (const end = Date.now() + 10_000; answers.at(-1) !== expected; await sleep(50)) {
      assert.ok(Date.now() < end, `${expected} does not answer; ${answers.at(-1) ?? "nobody"} did`);
      await send();
    }
  };
  try {
    await send();
    for (const name of ["one", "two"]) {
      const pod = await net.startPod([mapping]);
      await startInPod(pod, udpServer, name);
      await untilAnswered(name);
      await net.stopPod(pod);
    }
  } finally {
    socket.close();
  }
});

test("a port on an address that the host does not have is refused by name, and nothing is left", async () => {
  const mapping = { protocol: "tcp" as const, containerPort: 80, hostPort: 30000 + net.slot.number };
  const pod = await net.startPod([]);
  const lease = net.network.reserve("other", [{ ...mapping, hostIp: "192.0.2.1" }]);
  await assert.rejects(net.network.attach("other", lease, { namespaceFd: pod.fd }), {
    name: "InvalidArgumentError",
    message: /host_ip 192\.0\.2\.1 is no address of this host/,
  });
  await net.network.detach("other", lease, { namespaceGone: false });
});
