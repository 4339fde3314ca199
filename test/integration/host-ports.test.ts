/** One port of the node on several of its addresses: within a pod, and between pods. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createConnection } from "node:net";
import { after, afterEach, before, test } from "node:test";
import { openTestNetwork, type TestNetwork, type TestPod } from "../support/built-in-network.js";

let net: TestNetwork;
let gateway6: string;
let hostPort: number;
const servers: ChildProcess[] = [];
const protocols = ["tcp", "udp"] as const;

before(async () => {
  net = await openTestNetwork();
  gateway6 = `${net.slot.subnet6.split("/")[0]}1`;
  hostPort = 30000 + net.slot.number;
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.kill("SIGKILL");
  await net.removePods();
});
after(() => net.stop());

// says the name and the port to whoever comes, by TCP and by UDP
const server = `const [name, ...ports] = process.argv.slice(1);
  let left = ports.length * 2;
  const ready = () => { if (--left === 0) process.stdout.write("ready"); };
  for (const port of ports) {
    require("node:net").createServer((socket) => socket.on("error", () => {}).end(name + " " + port)).listen(port, "::", ready);
    const socket = require("node:dgram").createSocket("udp6");
    socket.on("message", (_, from) => socket.send(name + " " + port, from.port, from.address));
    socket.bind(port, "::", ready);
  }`;

async function serve(pod: TestPod, name: string, ...ports: number[]): Promise<void> {
  const args = [`--net=/proc/${pod.pid}/ns/net`, process.execPath, "-e", server, name, ...ports.map(String)];
  const child = spawn("nsenter", args, { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(child);
  await once(child.stdout, "data");
}

async function ask(protocol: (typeof protocols)[number], address: string): Promise<string> {
  if (protocol === "tcp") {
    let text = "";
    for await (const chunk of createConnection(hostPort, address)) text += String(chunk);
    return text;
  }
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const send = () => socket.send("?", hostPort, address);
  const again = setInterval(send, 500);
  send();
  try {
    const [answer] = (await once(socket, "message", { signal: AbortSignal.timeout(20_000) })) as [Buffer];
    return answer.toString();
  } finally {
    clearInterval(again);
    socket.close();
  }
}

async function assertAnswers(expected: Record<string, string>): Promise<void> {
  for (const protocol of protocols) {
    for (const [address, answer] of Object.entries(expected)) {
      assert.equal(await ask(protocol, address), answer, `${protocol} ${address}`);
    }
  }
}

test("a pod has a port on all addresses for one container, and on one address for another", async () => {
  const pod = await net.startPod(
    protocols.flatMap((protocol) => [
      { protocol, containerPort: 80, hostPort, hostIp: "" },
      { protocol, containerPort: 81, hostPort, hostIp: "127.0.0.1" },
      { protocol, containerPort: 81, hostPort, hostIp: gateway6 },
    ]),
  );
  await serve(pod, "pod", 80, 81);
  const expected = { "127.0.0.1": "pod 81", [net.gateway]: "pod 80", [gateway6]: "pod 81" };
  await assertAnswers(expected);
  net.network.close();
  net.network = net.another();
  net.network.adopt(pod.id, pod.lease);
  await net.network.start();
  await assertAnswers(expected);
  assert.throws(
    () => net.network.reserve("other", [{ protocol: "udp", containerPort: 1, hostPort, hostIp: "127.0.0.2" }]),
    {
      name: "FailedPreconditionError",
      message: new RegExp(`udp/127.0.0.2:${hostPort} is held by pod sandbox ${pod.id}$`),
    },
  );
  await net.stopPod(pod);
  assert.equal(await net.portElements(), 0);
});

test("several pods have a port, each on an address of its own", async () => {
  const addresses = ["127.0.0.1", net.gateway, gateway6];
  for (const [index, hostIp] of addresses.entries()) {
    const mappings = protocols.map((protocol) => ({ protocol, containerPort: 80, hostPort, hostIp }));
    await serve(await net.startPod(mappings), `pod${index}`, 80);
  }
  await assertAnswers(Object.fromEntries(addresses.map((address, index) => [address, `pod${index} 80`])));
});
