/**
 * Pods of all kinds come and go in an agent that is killed with SIGKILL at random moments; then the kernel's own lists are
 * compared with those from before. BERTH_CHURN_SECONDS sets for how long: half an hour is some thousands of pods.
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/built-in-network.js";
import { kernelView } from "../support/kernel-view.js";
import { importBusybox, NamespaceMode, runContainer, runPod, sh } from "../support/workload.js";

const seconds = Number(process.env["BERTH_CHURN_SECONDS"] ?? 6);
const churners = 4;
const [tcp, udp] = [0, 1];

let agent: TestAgent;
let firstPort: number;
let hostPorts: number[];
const lived = { pods: 0, answered: 0, kills: 0 };

before(async () => {
  agent = await startAgent();
  // dual stack
  const { slot } = agent;
  await agent.restart({ subnet: `${slot.subnet},${slot.subnet6}` });
  await importBusybox(agent);
  firstPort = 20_000 + slot.number * 50;
  hostPorts = Array.from({ length: churners * 2 }, (_, index) => firstPort + index);
});

after(() => agent.stop());

type Mapping = runtime.v1.IPortMapping;

/** Each churner has a host port of each protocol; what a pod is, its turn says. */
function kindOf(number: number, turn: number): { config: runtime.v1.IPodSandboxConfig; ports: Mapping[] } {
  const port = (protocol: number): Mapping => ({
    protocol,
    container_port: 8080,
    host_port: firstPort + number * 2 + protocol,
    host_ip: turn % 2 === 0 ? "" : "127.0.0.1",
  });
  const ports = [[], [port(tcp)], [port(tcp), port(udp)], []][turn % 4] ?? [];
  const limits = { "kubernetes.io/ingress-bandwidth": "100M", "kubernetes.io/egress-bandwidth": "100M" };
  const network = turn % 8 === 7 ? NamespaceMode.NODE : NamespaceMode.POD;
  const limited = turn % 5 === 0 && network === NamespaceMode.POD;
  const annotations = { churner: String(number), ...(limited && limits) };
  return {
    config: { port_mappings: ports, annotations, linux: { security_context: { namespace_options: { network } } } },
    ports,
  };
}

async function churn(number: number, stop: AbortSignal): Promise<void> {
  for (let turn = number; !stop.aborted; turn++) {
    try {
      const { config, ports } = kindOf(number, turn);
      const pod = await runPod(agent, config);
      if (ports.length > 0) {
        await runContainer(agent, pod, sh("nc -ll -p 8080 -e echo hello"));
        for (const { protocol, host_port } of ports) {
          if (protocol === udp) await send(host_port ?? 0);
          else if (await answers(host_port ?? 0)) lived.answered += 1;
        }
      }
      await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
      await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
      lived.pods += 1;
    } catch {
      // nobody answers between a kill and the next start, and a pod that the kill has left may have the port still
      await removeWhatIsLeft(number);
      await sleep(20);
    }
  }
}

/** Of this churner's pods. */
async function removeWhatIsLeft(number: number): Promise<void> {
  try {
    const { items } = await agent.client.call("ListPodSandbox", {});
    for (const { id = "", annotations } of items) {
      if (annotations?.["churner"] === String(number))
        await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id });
    }
  } catch {
    // the next round tries it again
  }
}

async function send(port: number): Promise<void> {
  const socket = createSocket("udp4");
  await new Promise((resolve) => socket.send("?", port, "127.0.0.1", resolve));
  socket.close();
}

/** A container that was started need not listen yet. */
async function answers(port: number): Promise<boolean> {
  for (let tries = 0; tries < 20; tries++) {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => undefined);
    let text = "";
    socket.on("data", (bytes: Buffer) => {
      text += bytes.toString();
    });
    const timer = setTimeout(() => socket.destroy(), 1_000);
    await once(socket, "close").catch(() => undefined);
    clearTimeout(timer);
    if (text === "hello\n") return true;
    await sleep(20);
  }
  return false;
}

/** The same in each run. */
function* randomNumbers(): Generator<number, never> {
  for (let state = 1; ; ) {
    state = (state * 48_271) % 0x7fffffff;
    yield state / 0x7fffffff;
  }
}

interface NetworkFacts {
  addressesInUse: number;
  hostPortsInUse: number;
  interfacesGoing: number;
}

async function networkFacts(): Promise<NetworkFacts> {
  const { info } = await agent.client.call("Status", { verbose: true });
  const { network } = JSON.parse(info["info"] ?? "{}") as { network: NetworkFacts };
  const { addressesInUse, hostPortsInUse, interfacesGoing } = network;
  return { addressesInUse, hostPortsInUse, interfacesGoing };
}

/** Of the whole machine; the kernel frees them some at a time. */
function networkNamespaces(): number {
  try {
    return Number(/^net_namespace +(\d+)/m.exec(readFileSync("/proc/slabinfo", "utf8"))?.[1]);
  } catch {
    return Number.NaN;
  }
}

function except(lines: readonly string[], others: readonly string[]): string[] {
  const known = new Set(others);
  return lines.filter((line) => !known.has(line));
}

test(`pods come and go for ${seconds} s in an agent that is killed at random: the kernel has what it had before`, async (t) => {
  // the bridge gets its link-local address with the first pod
  const { id: first } = await runPod(agent);
  const view = () => kernelView(agent, hostPorts);
  await until(() => view().some((line) => line.startsWith("route local fe80:")), "the bridge's link-local address");
  await agent.client.call("RemovePodSandbox", { pod_sandbox_id: first });
  await agent.assertNothingLeft();
  const before = view();
  const facts = await networkFacts();
  const namespaces = networkNamespaces();
  const stop = new AbortController();
  const running = Array.from({ length: churners }, (_, number) => churn(number, stop.signal));
  const random = randomNumbers();
  try {
    const end = Date.now() + seconds * 1_000;
    // on a busy machine none may have had the time between two kills
    for (let patience = 3_000; Date.now() < end || (lived.answered === 0 && patience-- > 0); ) {
      await sleep(Date.now() < end ? 3_000 * random.next().value ** 2 : 10);
      if (Date.now() >= end) continue;
      await agent.kill9();
      lived.kills += 1;
      await agent.restart();
    }
  } finally {
    stop.abort();
    await Promise.all(running);
  }
  assert.ok(lived.answered > 0, "not one host port has led to its pod");
  const { items } = await agent.client.call("ListPodSandbox", {});
  for (const { id } of items) await agent.client.call("RemovePodSandbox", { pod_sandbox_id: id ?? "" });
  await agent.assertNothingLeft();
  await until(async () => (await networkFacts()).interfacesGoing === 0, "all interfaces are gone");
  assert.deepEqual(await networkFacts(), facts);
  const after = view();
  assert.deepEqual({ more: except(after, before), less: except(before, after) }, { more: [], less: [] });
  t.diagnostic(`${lived.pods} pods, ${lived.answered} connections by host ports, ${lived.kills} kills`);
  t.diagnostic(`the machine's network namespaces: ${namespaces} before, ${networkNamespaces()} after`);
});
