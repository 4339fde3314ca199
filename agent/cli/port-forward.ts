import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { Command } from "commander";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { sentenceOf, UsageError } from "./failure.js";
import { forwardConnection } from "./streams/forward-client.js";

interface PortForwardOptions extends ClientOptions {
  address: string;
}

interface ForwardedPort {
  local: number;
  remote: number;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("port-forward <POD> <[LOCAL:]PORT...>")
    .description("lead local ports to ports of a pod's loopback, until it is interrupted")
    .option("--address <IP>", "where the local ports listen", "127.0.0.1");
  addClientOptions(command, { json: false }).action(portForward);
}

async function portForward(pod: string, texts: string[], options: PortForwardOptions): Promise<void> {
  const ports = texts.map(parsePorts);
  await withClient(options, async (client) => {
    // a pod that is not there is told at once
    await client.call("PortForward", { pod_sandbox_id: pod });
    for (const port of ports) await listen(client, pod, port, options.address);
    await new Promise<never>(() => undefined);
  });
}

/** "8080:80", "80", ":80" for a local port that the kernel picks. */
function parsePorts(text: string): ForwardedPort {
  const [, local, remote] = /^(?:(\d*):)?(\d+)$/.exec(text) ?? [];
  const ports = { remote: Number(remote), local: Number(local ?? remote) };
  if (remote === undefined || ports.remote < 1 || ports.remote > 65535 || ports.local > 65535) {
    throw new UsageError(`${text} is not [LOCAL:]PORT`);
  }
  return ports;
}

async function listen(client: Client, pod: string, { local, remote }: ForwardedPort, host: string): Promise<void> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    // before anybody else listens: one without a listener would end the command
    socket.on("error", () => socket.destroy());
    forward(client, pod, remote, socket).catch((error: unknown) => {
      socket.destroy();
      process.stderr.write(`berth: ${sentenceOf(error)}\n`);
    });
  });
  server.listen(local, host);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const where = host.includes(":") ? `[${host}]` : host;
  process.stdout.write(`Forwarding from ${where}:${port} -> ${remote}\n`);
}

async function forward(client: Client, pod: string, port: number, socket: Socket): Promise<void> {
  const { url } = await client.call("PortForward", { pod_sandbox_id: pod });
  const problem = await forwardConnection(url, port, socket);
  if (problem !== "") process.stderr.write(`berth: ${problem}\n`);
}
