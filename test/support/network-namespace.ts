/** A network namespace of its own with programs in it: what stands for a pod, or for a machine outside, in network tests. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/binding.js";

export interface TestNamespace {
  pid: number;
  /** descriptor of the namespace */
  fd: number;
  /** TCP: every client is told the address that it comes from. Ends with the namespace. */
  serve(port: number): Promise<void>;
  /** what the server at this address says, or the error's code: "ECONNREFUSED", "ETIMEDOUT" */
  ask(address: string, port: number): Promise<string>;
  /** standard output of a program; fails when it fails */
  run(program: string, ...args: string[]): Promise<string>;
  stop(): Promise<void>;
}

// the address is in its IPv4 form also when the socket listens on both families
const server = `
  require("node:net").createServer((socket) => {
    socket.on("error", () => {});
    socket.end(socket.remoteAddress.replace("::ffff:", ""));
  }).listen(Number(process.argv[1]), () => process.stdout.write("ready"));`;

const client = `
  const socket = require("node:net").connect(Number(process.argv[2]), process.argv[1]);
  let text = "";
  const end = (answer) => { process.stdout.write(answer); process.exit(0); };
  setTimeout(end, 1500, "ETIMEDOUT");
  socket.on("data", (chunk) => { text += chunk; });
  socket.on("error", (error) => end(error.code));
  socket.on("end", () => end(text));`;

export async function startNamespace(): Promise<TestNamespace> {
  const children: ChildProcess[] = [];
  const holder = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore" });
  children.push(holder);
  const pid = holder.pid as number;
  const path = `/proc/${pid}/ns/net`;
  for (let tries = 0; readlinkSync(path) === readlinkSync("/proc/self/ns/net"); tries++) {
    if (tries > 500) throw new Error("unshare made no network namespace");
    await sleep(10);
  }
  const enter = (program: string, args: string[]): ChildProcess =>
    spawn("nsenter", [`--net=${path}`, program, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const fd = native.openPath(path);
  return {
    pid,
    fd,
    async serve(port) {
      const child = enter(process.execPath, ["-e", server, String(port)]);
      children.push(child);
      await once(child.stdout as NodeJS.ReadableStream, "data");
    },
    ask: (address, port) => output(enter(process.execPath, ["-e", client, address, String(port)])),
    run: (program, ...args) => output(enter(program, args)),
    async stop() {
      native.closeDescriptor(fd);
      for (const child of children) {
        child.kill("SIGKILL");
        if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      }
    },
  };
}

/** Asks from the host's own namespace. */
export function askFromHost(address: string, port: number): Promise<string> {
  return output(
    spawn(process.execPath, ["-e", client, address, String(port)], { stdio: ["ignore", "pipe", "inherit"] }),
  );
}

async function output(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${child.spawnargs.join(" ")} ended with ${code}`);
  return text;
}
