/** This process' terminal, or its pipes, as a program's in a container. */
import type { Writable } from "node:stream";
import { native } from "../../../native/binding.js";
import { Channel } from "../../streaming/websocket/channels.js";
import { ChannelClient } from "./channel-client.js";

export interface RemoteStreams {
  stdin: boolean;
  tty: boolean;
}

/** Of a status: a few hundred bytes. */
const longestStatus = 64 * 1024;

/** Until the program has ended; answers its exit code. What went wrong before it could run is thrown. */
export async function passStreams(url: string, { stdin, tty }: RemoteStreams): Promise<number> {
  const client = await ChannelClient.open(url);
  let status = Buffer.alloc(0);
  const passOn = outputsOf(client);
  client.onData = (channel, bytes) => {
    if (channel === Channel.stdout) passOn(process.stdout, bytes);
    else if (channel === Channel.stderr) passOn(process.stderr, bytes);
    else if (channel === Channel.error) status = Buffer.concat([status, bytes]).subarray(0, longestStatus);
  };
  const closed = new Promise<void>((resolve) => {
    client.onClosed = resolve;
  });
  const restoreTerminal = tty ? takeTerminal(client) : () => undefined;
  try {
    if (stdin) passInput(client);
    client.resume();
    await closed;
  } finally {
    restoreTerminal();
    if (stdin) process.stdin.destroy();
  }
  return exitCodeOf(status.toString());
}

/** While one of the outputs is full the client is paused; what it has read already comes all the same. */
function outputsOf(client: ChannelClient): (output: Writable, bytes: Buffer) => void {
  const full = new Set<Writable>();
  return (output, bytes) => {
    if (output.write(bytes) || full.has(output)) return;
    full.add(output);
    client.pause();
    output.once("drain", () => {
      full.delete(output);
      if (full.size === 0) client.resume();
    });
  };
}

function passInput(client: ChannelClient): void {
  process.stdin.on("data", (bytes: Buffer) => {
    if (!client.send(Channel.stdin, bytes)) process.stdin.pause();
  });
  client.onDrain = () => process.stdin.resume();
  process.stdin.on("end", () => client.closeChannel(Channel.stdin));
  process.stdin.on("error", () => client.closeChannel(Channel.stdin));
}

/** Keys go to the program as they are pressed, and sizes as they change. Answers what undoes it. */
function takeTerminal(client: ChannelClient): () => void {
  const { stdin, stdout } = process;
  const tellSize = () => {
    const size = { Width: stdout.columns ?? 80, Height: stdout.rows ?? 24 };
    client.send(Channel.resize, Buffer.from(JSON.stringify(size)));
  };
  if (stdout.isTTY) {
    tellSize();
    stdout.on("resize", tellSize);
  }
  const restore = stdin.isTTY ? native.makeTerminalRaw(stdin.fd) : () => undefined;
  process.on("exit", restore);
  return () => {
    stdout.off("resize", tellSize);
    process.off("exit", restore);
    restore();
  };
}

interface Status {
  status?: string;
  message?: string;
  reason?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
}

function exitCodeOf(text: string): number {
  if (text === "") throw new Error("the connection to the agent broke");
  const status = JSON.parse(text) as Status;
  if (status.status === "Success") return 0;
  const causes = status.details?.causes ?? [];
  const code = causes.find(({ reason }) => reason === "ExitCode")?.message;
  if (status.reason === "NonZeroExitCode" && code !== undefined) return Number(code);
  throw new Error(causes[0]?.message ?? status.message ?? "the program did not run");
}
