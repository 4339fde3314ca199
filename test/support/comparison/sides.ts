/** One container run twice: by Berth, and from its bundle by runc; and what the probe inside and the host see of each. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ServiceError, status } from "@grpc/grpc-js";
import type { runtime } from "../../../cri-proto/generated/runtime.js";
import type { OciSpec } from "../../../sandbox/spec/oci.js";
import type { TestAgent } from "../agent.js";
import {
  hostPidOf,
  NamespaceMode,
  podConfig,
  type RunningPod,
  readLog,
  removePod,
  runContainer,
  sh,
  waitExited,
} from "../workload.js";
import { type RandomRequest, randomRequest } from "./random-config.js";
import { refill, type World } from "./world.js";

export type SideName = "berth" | "runc";

export interface Side {
  /** undefined: the program ran */
  failure: string | undefined;
  /** what the probe wrote, a fact a line */
  facts: string[];
}

export interface Comparison {
  request: RandomRequest;
  /** absent: Berth refused the request */
  spec?: OciSpec;
  sides: Record<SideName, Side>;
  /** links of /proc/PID/ns by type, "net:[4026531840]" */
  namespaces: { host: Record<string, string>; pod: Record<string, string> };
  /** paths that are one side's own, the longest first, and what to say instead */
  names: [path: string, name: string][];
}

/** as the kubelet gives them: missing directories are made for its containers */
const labels = { "io.kubernetes.container.name": "probe" };
const patienceMs = 20_000;
const namespaceTypes = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"];

export async function runOnBothSides(agent: TestAgent, world: World, seed: number): Promise<Comparison> {
  refill(world);
  const request = randomRequest(seed, world, agent.cgroupRoot);
  const config = podConfig(agent, request.pod, `pod-${seed}`);
  const unknown: Side = { failure: undefined, facts: [] };
  const comparison: Comparison = {
    request,
    sides: { berth: unknown, runc: unknown },
    namespaces: { host: namespacesOf("self"), pod: {} },
    names: [],
  };
  const pod = await runPodOf(agent, config, "");
  try {
    await runContainers(agent, world, pod, comparison);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    comparison.sides.berth = { failure: error.details, facts: [] };
  } finally {
    await removePod(agent, pod);
  }
  if (comparison.spec === undefined) {
    comparison.sides.runc = await createByRuntimeClass(agent, world, comparison.request, config);
  }
  return comparison;
}

async function runPodOf(
  agent: TestAgent,
  config: runtime.v1.IPodSandboxConfig,
  runtime_handler: string,
): Promise<RunningPod> {
  return { id: (await agent.client.call("RunPodSandbox", { config, runtime_handler })).pod_sandbox_id, config };
}

/** Whether runc takes what Berth's launcher refused, of which there is no bundle. */
async function createByRuntimeClass(
  agent: TestAgent,
  world: World,
  request: RandomRequest,
  config: runtime.v1.IPodSandboxConfig,
): Promise<Side> {
  const pod = await runPodOf(agent, config, "runc");
  try {
    const question = {
      pod_sandbox_id: pod.id,
      config: await containerOf(agent, world, pod, request),
      sandbox_config: config,
    };
    await agent.client.call("CreateContainer", question);
    return { failure: undefined, facts: [] };
  } catch (error) {
    // what runc itself says is INTERNAL
    if (!isRefusal(error, [status.INVALID_ARGUMENT, status.FAILED_PRECONDITION, status.INTERNAL])) throw error;
    return { failure: error.details, facts: [] };
  } finally {
    await removePod(agent, pod);
  }
}

async function containerOf(
  agent: TestAgent,
  world: World,
  pod: RunningPod,
  { container, needsTarget }: RandomRequest,
): Promise<runtime.v1.IContainerConfig> {
  const { linux } = container;
  const context = { ...linux?.security_context };
  if (needsTarget) {
    const target_id = await runContainer(agent, pod, {
      image: { image: world.images[0] ?? "" },
      ...sh("trap exit TERM; sleep 1000 & wait"),
    });
    context.namespace_options = { ...context.namespace_options, target_id };
  }
  return {
    ...container,
    metadata: { name: "probe" },
    log_path: "probe.log",
    labels,
    linux: { ...linux, security_context: context },
  };
}

/** Berth says what is wrong with a request; anything else is a failure of its own. */
function isRefusal(
  error: unknown,
  codes = [status.INVALID_ARGUMENT, status.FAILED_PRECONDITION],
): error is ServiceError {
  return error instanceof Error && "code" in error && codes.includes(error.code as number);
}

async function runContainers(agent: TestAgent, world: World, pod: RunningPod, comparison: Comparison): Promise<void> {
  const container = await containerOf(agent, world, pod, comparison.request);
  const question = { pod_sandbox_id: pod.id, config: container, sandbox_config: pod.config };
  const { container_id: id } = await agent.client.call("CreateContainer", question);
  // the init has not started yet, and enters a PID namespace of others only then
  const { pid_for_children, ...ofInit } = namespacesOf(await hostPidOf(agent, id));
  const ownPids = container.linux?.security_context?.namespace_options?.pid === NamespaceMode.CONTAINER;
  const { net = "", ipc = "", uts = "" } = ofInit;
  comparison.namespaces.pod = { net, ipc, uts, pid: ownPids ? "" : (pid_for_children ?? "") };

  const bundle = join(agent.paths.base, "bundle");
  await agent.client.call("MountBundle", { container_id: id, directory: bundle });
  try {
    const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as OciSpec;
    comparison.spec = spec;
    comparison.names = [
      [spec.linux.cgroupsPath, "CGROUP"],
      [spec.linux.cgroupsPath.replace(/-bundle$/, ""), "CGROUP"],
      [bundle, "BUNDLE"],
    ];
    const name = `berth-test-${agent.slot.number}-${process.pid}`;
    const byRunc = new RuncContainer(agent, world, {
      probe: world.probe,
      name,
      bundle,
      spec,
      stdin: container.stdin ?? false,
    });
    try {
      const created = await byRunc.create();
      const berth = await runByBerth(agent, id, spec);
      const runc = created ?? (await byRunc.run());
      comparison.sides = { berth, runc };
    } finally {
      byRunc.remove();
    }
  } finally {
    await agent.client.call("UnmountBundle", { directory: bundle });
  }
}

async function runByBerth(agent: TestAgent, id: string, spec: OciSpec): Promise<Side> {
  const limits = cgroupFacts(spec.linux.cgroupsPath.replace(/-bundle$/, ""));
  try {
    await agent.client.call("StartContainer", { container_id: id });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { failure: error.details, facts: [] };
  }
  const { log_path, exit_code } = await waitExited(agent, id, patienceMs);
  const records = await readLog(log_path ?? "");
  const output = records.map(
    ({ stream, tag, text }) => (stream === "stderr" ? "stderr " : "") + text + (tag === "F" ? "\n" : ""),
  );
  return { failure: undefined, facts: [...limits, ...lines(output.join("")), `exit code ${exit_code}`] };
}

interface RuncOptions {
  /** the program, which can receive a terminal, too */
  probe: string;
  name: string;
  bundle: string;
  spec: OciSpec;
  /** something may be written to it, though nothing is */
  stdin: boolean;
}

/** runc has no say in what a container's streams are: they are pipes, as Berth's. */
class RuncContainer {
  readonly #root: string;
  readonly #pipes: string;
  readonly #options: RuncOptions;
  #output: Promise<string> = Promise.resolve("");
  #limits: string[] = [];
  #opened: number[] = [];

  constructor(agent: TestAgent, world: World, options: RuncOptions) {
    this.#options = options;
    this.#root = join(agent.paths.base, "runc");
    this.#pipes = join(world.directory, "pipes");
  }

  /** Answers the failure, if it is one. */
  async create(): Promise<Side | undefined> {
    const { name, bundle, spec } = this.#options;
    mkdirSync(this.#pipes, { recursive: true });
    const log = join(this.#root, "log.json");
    mkdirSync(this.#root, { recursive: true });
    const args = ["--root", this.#root, "--log", log, "--log-format", "json", "create", "--bundle", bundle];
    const stdio = spec.process.terminal ? await this.#receiveTerminal(args) : this.#makeStreams();
    const child = spawn("runc", [...args, name], { stdio });
    for (const fd of this.#opened.splice(0)) closeSync(fd);
    const [code] = (await once(child, "exit")) as [number];
    if (code === 0) {
      this.#limits = cgroupFacts(spec.linux.cgroupsPath);
      return undefined;
    }
    const told = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").at(-1) : "";
    return { failure: `runc create: ${(JSON.parse(told || "{}") as { msg?: string }).msg ?? code}`, facts: [] };
  }

  async run(): Promise<Side> {
    const { name } = this.#options;
    const { status, stderr } = spawnSync("runc", ["--root", this.#root, "start", name], { encoding: "utf8" });
    if (status !== 0) return { failure: `runc start: ${stderr}`, facts: [] };
    const output = await Promise.race([this.#output, sleep(patienceMs).then(() => "the program does not end\n")]);
    return { failure: undefined, facts: [...this.#limits, ...lines(output), "exit code 0"] };
  }

  remove(): void {
    spawnSync("runc", ["--root", this.#root, "delete", "--force", this.#options.name]);
    rmSync(this.#pipes, { recursive: true, force: true });
    rmSync(this.#root, { recursive: true, force: true });
  }

  #makeStreams(): ("ignore" | number)[] {
    const out = this.#pipe("out", constants.O_WRONLY);
    const errors = this.#pipe("err", constants.O_WRONLY);
    const prefixed = errors.text.then((text) => lines(text).map((line) => `stderr ${line}\n`));
    this.#output = Promise.all([out.text, prefixed]).then(([text, more]) => text + more.join(""));
    if (!this.#options.stdin) return [this.#opens("/dev/null", constants.O_RDWR), out.fd, errors.fd];
    const path = join(this.#pipes, "in");
    makeFifo(path);
    this.#opens(path, constants.O_RDWR);
    return [this.#opens(path, constants.O_RDONLY), out.fd, errors.fd];
  }

  /** The end to write to, and what will have been read when all of those are closed. */
  #pipe(name: string, flags: number): { fd: number; text: Promise<string> } {
    const path = join(this.#pipes, name);
    makeFifo(path);
    const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const fd = this.#opens(path, flags);
    return { fd, text: textOf(new Socket({ fd: reading, readable: true, writable: false })) };
  }

  /** Closed when runc has it. */
  #opens(path: string, flags: number): number {
    const fd = openSync(path, flags);
    this.#opened.push(fd);
    return fd;
  }

  async #receiveTerminal(args: string[]): Promise<("ignore" | number)[]> {
    const socket = join(this.#pipes, "console");
    const out = this.#pipe("out", constants.O_WRONLY);
    const receiver = spawn(this.#options.probe, ["receive", socket], { stdio: ["ignore", out.fd, "inherit"] });
    receiver.unref();
    for (const until = Date.now() + patienceMs; !existsSync(socket); await sleep(5)) {
      if (Date.now() > until) throw new Error("the console socket was not made");
    }
    args.push("--console-socket", socket);
    this.#output = out.text;
    return ["ignore", "ignore", "ignore"];
  }
}

function makeFifo(path: string): void {
  if (spawnSync("mkfifo", ["-m", "600", path]).status !== 0) throw new Error(`mkfifo ${path} failed`);
}

async function textOf(stream: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(stream, "close");
  return Buffer.concat(chunks).toString();
}

function lines(text: string): string[] {
  return text.split(/\r*\n/).filter((line) => line !== "");
}

function namespacesOf(pid: number | "self"): Record<string, string> {
  return Object.fromEntries(namespaceTypes.map((type) => [type, readlinkSync(`/proc/${pid}/ns/${type}`)]));
}

/** What counts or changes by itself. */
const notLimits = new RegExp(
  [
    "stat|usage|pressure|procs|tasks|threads|events|current|event_control|failcnt|reclaim|peak|numa|slabinfo|release_agent",
    "rdma|misc|io_(service|queued|merged|wait)|throttle\\.io|cgroup\\.(type|controllers|kill)",
  ].join("|"),
);

/** The cgroup as the host sees it, in all hierarchies. */
function cgroupFacts(path: string): string[] {
  const facts: string[] = [];
  for (const hierarchy of cgroupRoots()) {
    const directory = join(hierarchy, path);
    if (!existsSync(directory)) {
      facts.push(`cgroup-of-host ${hierarchy} none`);
      continue;
    }
    for (const name of readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name)
      .sort()) {
      if (notLimits.test(name)) continue;
      let content: string;
      try {
        content = readFileSync(join(directory, name), "utf8");
      } catch {
        continue;
      }
      for (const line of content
        .split("\n")
        .filter((line) => line !== "")
        .sort())
        facts.push(`cgroup-of-host ${hierarchy}/${name} ${line}`);
    }
  }
  return facts;
}

function cgroupRoots(): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith("/sys/fs/cgroup"));
}
