/** What could keep the network of a pod that has ended, and does not: connections that are open on one side. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { after, before, test } from "node:test";
import { vethOf } from "../../sandbox/network/interface-names.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { until } from "../support/built-in-network.js";
import { SpdyClient } from "../support/spdy-client.js";
import { importBusybox, type RunningPod, removePod, runContainer, runPod, sh } from "../support/workload.js";

let agent: TestAgent;

before(async () => {
  agent = await startAgent();
  await importBusybox(agent);
});

after(() => agent.stop());

const hasInterface = (pod: RunningPod) => existsSync(`/sys/class/net/${vethOf(pod.id)}`);

/** As StopPodSandbox leaves it, with the client of the connection still there. */
async function stopAndWatch(pod: RunningPod): Promise<void> {
  assert.ok(hasInterface(pod));
  await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
  await until(() => !hasInterface(pod), "the interface is gone");
}

/** A pod with a server that answers and holds on. */
async function runServer(): Promise<RunningPod> {
  const pod = await runPod(agent);
  await runContainer(agent, pod, sh("nc -ll -p 7000 -e cat"));
  return pod;
}

async function connect(client: SpdyClient, requestid: string) {
  const headers = { port: "7000", requestid };
  const error = await client.createStream({ ...headers, streamtype: "error" });
  const data = await client.createStream({ ...headers, streamtype: "data" });
  data.write("x");
  return { error, data };
}

test("a forwarded connection ends with the pod, though its client stays, and the client is told why", async () => {
  const pod = await runServer();
  const { url } = await agent.client.call("PortForward", { pod_sandbox_id: pod.id });
  const client = await SpdyClient.open(url, ["portforward.k8s.io"]);
  let { data, error } = await connect(client, "0");
  // a container that was started need not listen yet
  for (let tries = 1; data.text !== "x"; tries++) {
    await client.until("the echo, or a refusal", () => data.text === "x" || error.ended);
    if (data.text !== "x") ({ data, error } = await connect(client, String(tries)));
  }
  await stopAndWatch(pod);
  await client.until("both ends", () => data.ended && error.ended);
  assert.match(error.text, new RegExp(`^error forwarding port 7000 to pod ${pod.id}, .*: the pod was stopped$`));
  const late = await connect(client, "late");
  await client.until("the refusal", () => late.error.ended);
  assert.match(late.error.text, /not ready/);
  client.destroy();
  await removePod(agent, pod);
  await agent.assertNothingLeft();
});

test("a connection that the kernel would go on with for minutes, because nobody takes what was sent, keeps no interface", async () => {
  let connected = 0;
  const server: Server = createServer({ pauseOnConnect: true }, (socket) => {
    connected += 1;
    socket.on("error", () => socket.destroy());
  });
  const pod = await runPod(agent);
  const gateway = `10.244.${agent.slot.number}.1`;
  try {
    await new Promise<void>((resolve) => server.listen(0, gateway, resolve));
    const { port } = server.address() as { port: number };
    await runContainer(agent, pod, sh(`nc ${gateway} ${port} < /dev/zero`));
    await until(() => connected > 0, "a connection");
    const sent = async () => (await podStatsOf(pod)) > 100_000;
    await until(sent, "what fills the other side");
    await stopAndWatch(pod);
    await removePod(agent, pod);
    await agent.assertNothingLeft();
  } finally {
    server.close();
  }
});

async function podStatsOf(pod: RunningPod): Promise<number> {
  const { stats } = await agent.client.call("PodSandboxStats", { pod_sandbox_id: pod.id });
  return Number(stats?.linux?.network?.default_interface?.tx_bytes?.value ?? 0);
}
