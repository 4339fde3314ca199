/**
 * `npm run bench -- stream-leaks [ROUNDS]`: exec, attach and port-forward over both protocols, ROUNDS times each, half of them
 * dropped by the client in the midst; descriptors, threads and memory of agent and monitor before and after.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../sandbox/errors.js";
import type { TestAgent } from "../support/agent.js";
import { openRemoteCommand, SpdyClient } from "../support/spdy-client.js";
import { WebSocketClient } from "../support/websocket-client.js";
import { importBusybox, runContainer, runPod, sh } from "../support/workload.js";
import { processesWith, pssMiB } from "./machine.js";

const callers = 8;
const port = 7000;
/** what is loaded and grown once is there after them */
const warmUp = 200;
const settleMs = 5_000;

interface Usage {
  descriptors: number;
  threads: number;
  pss: number;
}

function usage(pid: number): Usage {
  const entries = (path: string) => readdirSync(path).length;
  return { descriptors: entries(`/proc/${pid}/fd`), threads: entries(`/proc/${pid}/task`), pss: pssMiB(pid) };
}

function print(when: string, pids: Record<string, number>): void {
  for (const [name, pid] of Object.entries(pids)) {
    const { descriptors, threads, pss } = usage(pid);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).length;
    console.log(
      `${when.padEnd(24)} ${name.padEnd(8)} ${descriptors} descriptors, ${threads} threads, ${children} children, PSS ${pss.toFixed(2)} MiB`,
    );
  }
}

async function repeat(rounds: number, once: (round: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < rounds) {
      const round = next++;
      try {
        await once(round);
      } catch (error) {
        throw new Error(`round ${round}: ${messageOf(error)}`, { cause: error });
      }
    }
  };
  await Promise.all(Array.from({ length: callers }, worker));
}

export async function measureStreamLeaks(agent: TestAgent, rounds: number): Promise<void> {
  await importBusybox(agent);
  const pod = await runPod(agent);
  const attached = await runContainer(agent, pod, { stdin: true, ...sh("while read line; do echo $line; done") });
  await runContainer(agent, pod, sh(`busybox httpd -f -p 127.0.0.1:${port} -h /etc`));
  const monitor = processesWith(`${agent.paths.run}/pods/`)[0] ?? 0;
  const pids = { agent: agent.pid, monitor };

  const exec = async (round: number) => {
    const tty = round % 4 === 1;
    const wanted = { stdin: true, stdout: true, stderr: !tty, tty };
    const { url } = await agent.client.call("Exec", { container_id: attached, cmd: ["cat"], ...wanted });
    if (round % 2 === 0) {
      const command = await openRemoteCommand(url, wanted);
      command.stdin?.write("x");
      await command.client.until("the echo", () => (command.stdout?.parts.length ?? 0) > 0, 60_000);
      if (round % 4 === 0) command.stdin?.end();
      if (round % 4 === 0) await command.ended(60_000);
      command.client.destroy();
    } else {
      const client = await WebSocketClient.open(url);
      client.resize(80, 24);
      client.send(0, "x\n");
      await client.until("the echo", () => client.bytes(1).length > 0, 60_000);
      client.destroy();
    }
  };
  const attach = async (round: number) => {
    const wanted = { stdin: true, stdout: true, stderr: true };
    const { url } = await agent.client.call("Attach", { container_id: attached, ...wanted });
    const client = await (round % 2 === 0 ? openRemoteCommand(url, wanted) : WebSocketClient.open(url));
    if (client instanceof WebSocketClient) {
      client.send(0, "y\n");
      await client.until("the echo", () => client.bytes(1).length > 0, 60_000);
      client.destroy();
    } else {
      client.stdin?.write("y\n");
      await client.client.until("the echo", () => (client.stdout?.parts.length ?? 0) > 0, 60_000);
      client.client.destroy();
    }
  };
  const forward = async (round: number) => {
    const { url } = await agent.client.call("PortForward", { pod_sandbox_id: pod.id });
    const client = await SpdyClient.open(url, ["portforward.k8s.io"]);
    const headers = { port: String(port), requestid: "0" };
    await client.createStream({ ...headers, streamtype: "error" }, true);
    const data = await client.createStream({ ...headers, streamtype: "data" });
    if (round % 2 === 0) {
      data.write("GET /passwd HTTP/1.0\r\n\r\n");
      await client.until("the answer", () => data.ended, 60_000);
    }
    client.destroy();
  };

  for (const [name, once] of Object.entries({ exec, attach, "port-forward": forward })) {
    await repeat(warmUp, once);
    await sleep(settleMs);
    print(`${name}, before`, pids);
    const begun = performance.now();
    await repeat(rounds, once);
    const seconds = (performance.now() - begun) / 1000;
    await sleep(settleMs);
    print(`${name}, ${rounds} rounds`, pids);
    console.log(`${name}: ${(rounds / seconds).toFixed(0)} a second`);
  }
}
