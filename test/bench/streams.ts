/**
 * `npm run bench -- streams`: exec, port-forward and attach through the agent, with a plain socat through the same
 * namespaces beside them. Clients only count what comes, so that it is the server that is measured.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { FrameParser } from "../../agent/streaming/spdy/frames.js";
import { HeaderWriter } from "../../agent/streaming/spdy/headers.js";
import type { TestAgent } from "../support/agent.js";
import { words } from "../support/spdy-client.js";
import { requestUpgrade, WebSocketClient } from "../support/websocket-client.js";
import { importBusybox, type RunningPod, runContainer, runPod } from "../support/workload.js";
import { type Figure, median, timed } from "./figures.js";
import { processesWith, pssMiB } from "./machine.js";
import { measureExecTimes, measureFairness, measureLogCpu } from "./writers.js";

const rounds = 3;
const streamBytes = 500_000_000;
const serverPort = 7000;
const echoes = 300;
const attaches = 1_000;
const connections = 1_000;

/** Two ports of the pod's: one pours, one says a byte and closes. */
const server = `const { createServer } = require("node:net");
const block = Buffer.alloc(1 << 18);
createServer((socket) => {
  let left = ${streamBytes};
  const pour = () => { while (left > 0) { left -= block.length; if (!socket.write(block)) return; } socket.end(); };
  socket.on("drain", pour).on("error", () => {});
  pour();
}).listen({ port: ${serverPort}, host: "127.0.0.1" });
createServer((socket) => { socket.on("error", () => {}); socket.end("x"); })
  .listen({ port: ${serverPort + 1}, host: "127.0.0.1", backlog: 4096 }, () => process.stdout.write("ready"));`;

export async function measureStreams(agent: TestAgent): Promise<{ ours: Figure[]; socat: Map<string, number> }> {
  await importBusybox(agent);
  const pod = await runPod(agent);
  const id = await runContainer(agent, pod, { stdin: true });
  const namespace = `--net=${agent.paths.netns}/berth-${pod.id}`;
  const pouring = spawn("nsenter", [namespace, process.execPath, "-e", server], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(pouring.stdout, "data");
  const ours: Figure[] = [];
  const socat = new Map<string, number>();
  try {
    const execUrl = async (cmd: string[], more: object = {}) =>
      (await agent.client.call("Exec", { container_id: id, cmd, stdout: true, ...more })).url;
    // without an end: the client hangs up when it has had enough
    const zeros = ["cat", "/dev/zero"];
    const websocket = "exec, output over WebSocket";
    const spdy = "exec, output over SPDY";
    const forwarded = "port-forward, one connection";
    const speeds: Record<string, number[]> = { [websocket]: [], [spdy]: [], [forwarded]: [] };
    const beside: Record<string, number[]> = { [websocket]: [], [forwarded]: [] };
    const cpu: number[] = [];
    const { pid } = JSON.parse((await verbose(agent, id))["info"] ?? "{}") as { pid: number };
    for (let round = 0; round < rounds; round++) {
      const before = cpuMs(agent.pid);
      speeds[websocket]?.push(await speedOf(async () => pourWebSocket(await execUrl(zeros))));
      cpu.push(((cpuMs(agent.pid) - before) * 1e9) / streamBytes);
      beside[websocket]?.push(await besideSocat(`EXEC:nsenter -t ${pid} -n -m ${zeros.join(" ")}`));
      speeds[spdy]?.push(await speedOf(async () => pourSpdy(await execUrl(zeros))));
      speeds[forwarded]?.push(await speedOf(() => pourThrough(agent, pod)));
      beside[forwarded]?.push(
        await besideSocat(`EXEC:nsenter ${namespace} socat STDIO TCP4\\:127.0.0.1\\:${serverPort}`),
      );
    }
    const add = (name: string, unit: string, value: number, target?: number, atLeast = false) =>
      ours.push({ name, unit, value, ...(target !== undefined && { target }), atLeast });
    add(websocket, "MB/s", median(speeds[websocket] ?? []), 1_000, true);
    add("  of the agent's processor time", "ms/GB", median(cpu));
    add(spdy, "MB/s", median(speeds[spdy] ?? []), 300, true);
    add("exec, echo there and back", "ms", await echoTime(await execUrl(["cat"], { stdin: true })), 1);
    add(forwarded, "MB/s", median(speeds[forwarded] ?? []), 1_000, true);
    for (const [name, values] of Object.entries(beside)) socat.set(name, median(values));
    const perSecond = "port-forward, connections a second";
    const took: number[] = [];
    for (let round = 0; round < rounds; round++) took.push(await timed(() => openAndClose(agent, pod)));
    add(perSecond, "/s", (connections * 1000) / median(took), 2_000, true);
    add("1,000 idle attaches, agent and monitor (PSS)", "MiB", await attachMemory(agent, id), 30);
    ours.push(...(await measureExecTimes(agent)), ...(await measureFairness(agent)), ...(await measureLogCpu(agent)));
  } finally {
    pouring.kill();
  }
  return { ours, socat };
}

async function verbose(agent: TestAgent, id: string): Promise<Record<string, string>> {
  return (await agent.client.call("ContainerStatus", { container_id: id, verbose: true })).info;
}

function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** MB/s of streamBytes. */
async function speedOf(transfer: () => Promise<void>): Promise<number> {
  return streamBytes / 1000 / (await timed(transfer));
}

const webSocketUpgrade = {
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": Buffer.alloc(16).toString("base64"),
  "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
};

function spdyUpgrade(protocol: string): Record<string, string> {
  return { Upgrade: "SPDY/3.1", "Content-Length": "0", "X-Stream-Protocol-Version": protocol };
}

/**
 * Opens the URL, sends what comes after the request, and hangs up when streamBytes have come. All is read into one buffer:
 * the client must not be what is measured.
 */
function pour(url: string, method: string, headers: Record<string, string>, then = Buffer.alloc(0)): Promise<void> {
  const { hostname, port, pathname } = new URL(url);
  const lines = Object.entries({ Host: `${hostname}:${port}`, Connection: "Upgrade", ...headers });
  const head = `${method} ${pathname} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  return countFrom(Number(port), hostname, Buffer.concat([Buffer.from(head), then]));
}

function countFrom(port: number, host: string, say: Buffer): Promise<void> {
  let left = streamBytes;
  return new Promise((resolve, reject) => {
    const callback = (count: number): boolean => {
      left -= count;
      if (left > 0) return true;
      socket.destroy();
      resolve();
      return false;
    };
    const socket = connect({ port, host, onread: { buffer: Buffer.allocUnsafe(256 * 1024), callback } });
    socket.on("error", reject);
    socket.on("end", () => reject(new Error(`${left} bytes did not come`)));
    socket.write(say);
  });
}

function pourWebSocket(url: string): Promise<void> {
  return pour(url, "GET", webSocketUpgrade);
}

function pourSpdy(url: string): Promise<void> {
  const writer = new HeaderWriter();
  const opened = ["error", "stdout"].map((streamtype, index) =>
    synStream(2 * index + 1, writer.write(new Map([["streamtype", streamtype]]))),
  );
  return pour(url, "POST", spdyUpgrade("v4.channel.k8s.io"), Buffer.concat(opened));
}

function synStream(id: number, block: Buffer): Buffer {
  const content = Buffer.concat([words(id, 0), Buffer.alloc(2), block]);
  return Buffer.concat([Buffer.of(0x80, 3, 0, 1), words(content.length), content]);
}

async function pourThrough(agent: TestAgent, pod: RunningPod): Promise<void> {
  const { url } = await agent.client.call("PortForward", { pod_sandbox_id: pod.id });
  const opened = Buffer.concat(pairOf(new HeaderWriter(), 1, serverPort));
  await pour(url, "POST", spdyUpgrade("portforward.k8s.io"), opened);
}

async function forwardSocket(agent: TestAgent, pod: RunningPod): Promise<Socket> {
  const { url } = await agent.client.call("PortForward", { pod_sandbox_id: pod.id });
  const { socket } = await requestUpgrade(url, "POST", spdyUpgrade("portforward.k8s.io"));
  return socket;
}

function pairOf(writer: HeaderWriter, id: number, port: number): Buffer[] {
  const headers = { port: String(port), requestid: String(id) };
  return ["error", "data"].map((streamtype, index) =>
    synStream(id + 2 * index, writer.write(new Map(Object.entries({ ...headers, streamtype })))),
  );
}

/** Connections of one client, all asked for at once; back when each has had its byte and its end. */
async function openAndClose(agent: TestAgent, pod: RunningPod): Promise<void> {
  const socket = await forwardSocket(agent, pod);
  let open = connections;
  const done = new Promise<void>((resolve) => {
    const parser = new FrameParser({
      control: () => undefined,
      data: () => undefined,
      // of data streams, whose numbers are 3, 7, 11
      fin: (id) => {
        if (id % 4 === 3 && --open === 0) resolve();
      },
    });
    socket.on("data", (bytes: Buffer) => parser.push(bytes));
  });
  socket.resume();
  const writer = new HeaderWriter();
  for (let index = 0; index < connections; index++) {
    socket.write(Buffer.concat(pairOf(writer, 4 * index + 1, serverPort + 1)));
    const end = Buffer.concat([words(4 * index + 3), Buffer.of(1, 0, 0, 0)]);
    socket.write(end);
  }
  await done;
  socket.destroy();
}

async function echoTime(url: string): Promise<number> {
  const client = await WebSocketClient.open(url);
  const times: number[] = [];
  for (let round = 1; round <= echoes; round++) {
    times.push(
      await timed(async () => {
        client.send(0, "x");
        await client.until("the echo", () => (client.received.get(1)?.length ?? 0) > round);
      }),
    );
  }
  client.destroy();
  return median(times);
}

async function attachMemory(agent: TestAgent, id: string): Promise<number> {
  const all = () => [agent.pid, ...processesWith(`${agent.paths.run}/pods/`)];
  const memory = () => all().reduce((sum, pid) => sum + pssMiB(pid), 0);
  const open = async () => {
    const request = { container_id: id, stdin: true, stdout: true, stderr: true };
    return WebSocketClient.open((await agent.client.call("Attach", request)).url);
  };
  const before = memory();
  const clients: WebSocketClient[] = [];
  for (let index = 0; index < attaches; index++) clients.push(await open());
  for (const client of clients) await client.until("the greeting", () => client.greeted);
  // what was only needed for opening them is given back by then
  await sleep(5_000);
  const after = memory();
  for (const client of clients) client.destroy();
  return after - before;
}

/** MB/s that a client gets from socat, which runs the other end anew for each. */
async function besideSocat(address: string): Promise<number> {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const child: ChildProcess = spawn("socat", ["-b", "65536", `TCP4-LISTEN:${port},bind=127.0.0.1,reuseaddr`, address], {
    stdio: "ignore",
  });
  // one that cannot be started fails the measurement, which then ends its agent
  await once(child, "spawn");
  try {
    for (let tries = 0; tries < 200; tries++) {
      const listening = execFileSync("ss", ["-Hltn", `sport = :${port}`], { encoding: "utf8" });
      if (listening !== "") break;
      await sleep(20);
    }
    return await speedOf(() => countFrom(port, "127.0.0.1", Buffer.alloc(0)));
  } finally {
    child.kill();
  }
}
