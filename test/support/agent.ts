/** A real `berth serve` process on private paths, with a bridge, a subnet and cgroups of its own. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Client, connect } from "../../agent/cli/client.js";
import { native } from "../../native/binding.js";
import { removeBuiltinNetwork } from "../../sandbox/network/builtin.js";
import { assertNothingLeft, leftCgroups, leftProcesses, mountsBelow } from "./leaks.js";
import { claimSlot, mostSlots, type Slot } from "./slot.js";

export interface AgentPaths {
  /** the directory that has all the others in it */
  base: string;
  run: string;
  root: string;
  netns: string;
  /** registries' hosts.toml files */
  registries: string;
  /** for pods' log_directory */
  logs: string;
  /** of CNI: configurations, plugins (those of Debian's package are found, too), libcni's cache */
  cni: { conf: string; bin: string; cache: string };
}

export interface TestAgent {
  /** of the process that runs now */
  readonly client: Client;
  readonly pid: number;
  /** "unix:///PATH" */
  readonly socket: string;
  readonly paths: AgentPaths;
  readonly slot: Slot;
  /** cgroup of the pods that name no parent */
  readonly cgroupRoot: string;
  /** "http://127.0.0.1:PORT/metrics" */
  readonly metricsUrl: string;
  /** standard error of all its processes so far */
  logs(): string;
  /** its process has not ended */
  isAlive(): boolean;
  /** SIGKILL; back when the process is gone */
  kill9(): Promise<void>;
  /** SIGTERM; answers the exit code */
  terminate(): Promise<number | null>;
  /** starts it again (after ending it, when it runs); `flags` change its own */
  restart(flags?: Record<string, string>): Promise<void>;
  /** nothing of a pod may be on the machine */
  assertNothingLeft(): Promise<void>;
  /** removes all pods, ends the agent, checks that nothing is left, and takes its directories and its bridge away */
  stop(): Promise<void>;
}

export interface AgentOptions {
  /** further flags of `berth serve`; they win over the defaults here */
  flags?: Record<string, string>;
  /** further environment */
  env?: Record<string, string>;
  /** another build's main.js; looked at whenever it is started */
  program?: string;
  /** a program and its arguments that executes the agent's: it must not fork */
  wrapper?: readonly string[];
  /** the caller catches SIGTERM and SIGINT, and calls stop() */
  catchesSignals?: boolean;
}

const program = process.env["BERTH_TEST_PROGRAM"] ?? fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));
// the same as the program's first line
const nodeFlags = ["--max-semi-space-size=2"];
const startTimeoutMs = 60_000;

export async function startAgent(options: AgentOptions = {}): Promise<TestAgent> {
  const slot = claimSlot();
  const paths = makePaths();
  const cgroupRoot = `/berth-test-${slot.number}-${process.pid}`;
  const socket = join(paths.run, "berth.sock");
  const logFile = join(paths.base, "agent.log");
  const metrics = `127.0.0.1:${await metricsPort(slot)}`;
  const flags: Record<string, string> = {
    config: join(paths.base, "config.toml"),
    run: paths.run,
    root: paths.root,
    "netns-dir": paths.netns,
    "cni-conf": paths.cni.conf,
    "cni-bin": `${paths.cni.bin},/usr/lib/cni`,
    "cni-cache": paths.cni.cache,
    registries: paths.registries,
    metrics,
    bridge: slot.bridge,
    subnet: slot.subnet,
    "cgroup-root": cgroupRoot,
    "log-level": "debug",
    ...options.flags,
  };
  const args = () => [
    ...nodeFlags,
    options.program ?? program,
    "serve",
    ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
  ];
  const logs = () => readFileSync(logFile, "utf8");
  let child: ChildProcess;
  let client: Client | undefined;

  const start = async (): Promise<void> => {
    const log = openSync(logFile, "a");
    const env = { ...process.env, MALLOC_ARENA_MAX: "1", ...options.env };
    const [command = "", ...words] = [...(options.wrapper ?? []), process.execPath, ...args()];
    child = spawn(command, words, { stdio: ["ignore", log, log, slot.lock], env });
    closeSync(log);
    client = await untilServing(child, socket, logs);
  };
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    client?.close();
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, "exit");
    }
    return child.exitCode;
  };
  const scope = { ...paths, cgroupRoot, bridge: slot.bridge };

  const agent: TestAgent = {
    get client() {
      if (client === undefined) throw new Error("the agent was not started");
      return client;
    },
    get pid() {
      return child.pid as number;
    },
    socket: `unix://${socket}`,
    paths,
    slot,
    cgroupRoot,
    metricsUrl: `http://${metrics}/metrics`,
    logs,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    kill9: async () => void (await end("SIGKILL")),
    terminate: () => end("SIGTERM"),
    async restart(changed = {}) {
      await end("SIGTERM");
      Object.assign(flags, changed);
      await start();
    },
    assertNothingLeft: () => assertNothingLeft(scope),
    async stop() {
      try {
        await removeAllPods(agent.client);
        await assertNothingLeft(scope);
        const code = await end("SIGTERM");
        if (code !== 0) throw new Error(`the agent ended with ${code} after SIGTERM`);
      } catch (error) {
        throw new Error(`${String(error)}\nThe agent's log ends with:\n${logs().slice(-8_000)}`, { cause: error });
      } finally {
        await end("SIGKILL");
        await sweep(agent);
        slot.release();
      }
    },
  };
  // a test that hangs is ended by a signal: its agent and its pods must not outlive it
  for (const signal of options.catchesSignals ? [] : (["SIGTERM", "SIGINT"] as const)) {
    process.once(signal, () => {
      child.kill("SIGKILL");
      void sweep(agent).finally(() => process.exit(1));
    });
  }
  try {
    await start();
  } catch (error) {
    await end("SIGKILL");
    await sweep(agent);
    slot.release();
    throw error;
  }
  return agent;
}

/** Short: a socket's path has at most 107 bytes. */
function makePaths(): AgentPaths {
  const base = mkdtempSync("/tmp/b-");
  const below = (name: string): string => {
    mkdirSync(join(base, name), { mode: 0o700 });
    return join(base, name);
  };
  // what the machine itself is configured to is not for tests
  writeFileSync(join(base, "config.toml"), "");
  return {
    base,
    run: below("run"),
    root: below("root"),
    netns: below("netns"),
    registries: below("certs.d"),
    logs: below("logs"),
    cni: { conf: below("net.d"), bin: below("cni-bin"), cache: below("cni") },
  };
}

/**
 * A client whose first call was answered. It is made when the socket listens: one that fails to connect waits a second
 * before it tries again. Who listens may still be the agent that was killed: the monitor that it was starting has its
 * descriptors until it executes its program.
 */
async function untilServing(child: ChildProcess, path: string, logs: () => string): Promise<Client> {
  for (const until = Date.now() + startTimeoutMs; ; await sleep(10)) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the agent ended with ${child.exitCode ?? child.signalCode}:\n${logs()}`);
    }
    if (await listens(path)) {
      const client = connect(path);
      try {
        await client.call("Version", { version: "v1" }, 5_000);
        return client;
      } catch {
        client.close();
      }
    }
    if (Date.now() > until) throw new Error(`the agent does not answer on ${path}:\n${logs()}`);
  }
}

function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function removeAllPods(client: Client): Promise<void> {
  const { items } = await client.call("ListPodSandbox", {});
  await Promise.all(items.map(({ id }) => client.call("RemovePodSandbox", { pod_sandbox_id: id ?? "" })));
}

/** Whatever a failed test has left, so that it does not fail the others. */
async function sweep(agent: TestAgent): Promise<void> {
  const { paths, slot, cgroupRoot } = agent;
  for (let tries = 0; tries < 100; tries++) {
    const processes = leftProcesses({ run: paths.run, cgroupRoot });
    if (processes.length === 0) break;
    for (const { pid } of processes) kill(pid);
    await sleep(10);
  }
  for (const line of mountsBelow(paths.base)) await native.unmount(line.split(" ")[4] ?? "").catch(() => undefined);
  await removeBuiltinNetwork(native, slot.bridge);
  for (const path of leftCgroups(cgroupRoot)) rmdirSync(path);
  // coreutils', not Node's: a tree that an agent had no time to delete can be deeper than a stack
  execFileSync("rm", ["-rf", paths.base]);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it has ended meanwhile
  }
}

/** Of the slots' agents, one each; the next is of freePort(). */
const firstMetricsPort = 10_000;
const firstFreePort = firstMetricsPort + mostSlots;

export async function freePort(): Promise<number> {
  for (;;) {
    // below those that the kernel gives to whoever connects just now: one of these would be gone before it is used
    const port = randomInt(firstFreePort, 20_000);
    if (await isFree(port)) return port;
  }
}

/** The slot's own: an agent that is started anew listens there again, and no other test's takes it meanwhile. */
async function metricsPort({ number }: Slot): Promise<number> {
  const port = firstMetricsPort + number;
  return (await isFree(port)) ? port : freePort();
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
