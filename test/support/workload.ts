/** Pods and containers through the CRI, as a test wants them: short calls with defaults that each test may overwrite. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { TestAgent } from "./agent.js";
import { type BusyboxOptions, buildBusyboxImage, writeOciLayout } from "./image-builder.js";

export const { ContainerState, NamespaceMode, PodSandboxState, Signal } = runtime.v1;

export interface RunningPod {
  id: string;
  config: runtime.v1.IPodSandboxConfig;
}

export interface Executed {
  stdout: string;
  stderr: string;
  exitCode: number;
}

export interface LogRecord {
  time: string;
  stream: string;
  tag: string;
  text: string;
}

export const busyboxName = "berth.test/busybox:1";

/** An int64 field. */
export function long(value: number): Long {
  return Long.fromNumber(value);
}

/** Imports the busybox image under a name. Every test agent needs it once. */
export async function importBusybox(
  agent: TestAgent,
  name: string = busyboxName,
  options: BusyboxOptions = {},
): Promise<string> {
  const layout = join(agent.paths.base, `layout-${randomBytes(4).toString("hex")}`);
  await writeOciLayout(layout, await buildBusyboxImage({ compression: "none", ...options }), name);
  const { images } = await agent.client.call("ImportImage", { path: layout });
  assert.equal(images.length, 1);
  return images[0]?.id ?? "";
}

/** A config with a name of its own, and a log directory. */
export function podConfig(
  agent: TestAgent,
  more: runtime.v1.IPodSandboxConfig = {},
  name = `pod-${randomBytes(4).toString("hex")}`,
): runtime.v1.IPodSandboxConfig {
  return {
    metadata: { name, namespace: "test", uid: randomBytes(8).toString("hex"), attempt: 0 },
    hostname: name,
    log_directory: join(agent.paths.logs, name),
    ...more,
  };
}

/** @param runtime_handler empty: the built-in launcher */
export async function runPod(
  agent: TestAgent,
  more: runtime.v1.IPodSandboxConfig = {},
  runtime_handler = "",
): Promise<RunningPod> {
  const config = podConfig(agent, more);
  const { pod_sandbox_id } = await agent.client.call("RunPodSandbox", { config, runtime_handler });
  return { id: pod_sandbox_id, config };
}

/** Names of the bundles that OCI runtimes have in the pod's directory. */
export function bundlesOf(agent: TestAgent, pod: RunningPod): string[] {
  const directory = join(agent.paths.run, "pods", pod.id, "oci");
  return existsSync(directory) ? readdirSync(directory) : [];
}

export async function removePod(agent: TestAgent, pod: RunningPod): Promise<void> {
  await agent.client.call("StopPodSandbox", { pod_sandbox_id: pod.id });
  await agent.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
}

export async function podStatus(agent: TestAgent, id: string): Promise<runtime.v1.IPodSandboxStatus> {
  const { status: found } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: id });
  assert.ok(found);
  return found;
}

export function containerConfig(more: runtime.v1.IContainerConfig = {}): runtime.v1.IContainerConfig {
  const name = `c-${randomBytes(4).toString("hex")}`;
  const { linux, ...others } = more;
  return {
    metadata: { name, attempt: 0 },
    image: { image: busyboxName },
    log_path: `${name}.log`,
    command: ["sleep", "1000"],
    // what the kubelet asks for; what is not said means one PID namespace for the whole pod
    linux: {
      ...linux,
      security_context: {
        namespace_options: { pid: NamespaceMode.CONTAINER },
        ...linux?.security_context,
      },
    },
    ...others,
  };
}

/** A script of busybox' sh as the container's command. */
export function sh(script: string): Pick<runtime.v1.IContainerConfig, "command"> {
  return { command: ["sh", "-c", script] };
}

export async function createContainer(
  agent: TestAgent,
  pod: RunningPod,
  more: runtime.v1.IContainerConfig = {},
): Promise<string> {
  const question = { pod_sandbox_id: pod.id, config: containerConfig(more), sandbox_config: pod.config };
  return (await agent.client.call("CreateContainer", question)).container_id;
}

/** Created and started. */
export async function runContainer(
  agent: TestAgent,
  pod: RunningPod,
  more: runtime.v1.IContainerConfig = {},
): Promise<string> {
  const id = await createContainer(agent, pod, more);
  await agent.client.call("StartContainer", { container_id: id });
  return id;
}

export async function containerStatus(agent: TestAgent, id: string): Promise<runtime.v1.IContainerStatus> {
  const { status: found } = await agent.client.call("ContainerStatus", { container_id: id });
  assert.ok(found);
  return found;
}

export async function waitExited(
  agent: TestAgent,
  id: string,
  timeoutMs = 10_000,
): Promise<runtime.v1.IContainerStatus> {
  for (const until = Date.now() + timeoutMs; ; await sleep(10)) {
    const found = await containerStatus(agent, id);
    if (found.state === ContainerState.CONTAINER_EXITED) return found;
    if (Date.now() > until) throw new Error(`container ${id} did not end within ${timeoutMs} ms`);
  }
}

/** Runs a container to its end in a pod, and answers what it wrote and how it ended. */
export async function runToEnd(
  agent: TestAgent,
  pod: RunningPod,
  more: runtime.v1.IContainerConfig,
): Promise<{ id: string; status: runtime.v1.IContainerStatus; output: string }> {
  const id = await runContainer(agent, pod, more);
  const ended = await waitExited(agent, id);
  const records = await readLog(ended.log_path ?? "");
  return { id, status: ended, output: records.map(({ tag, text }) => text + (tag === "F" ? "\n" : "")).join("") };
}

/** @param timeoutSeconds 0: none */
export async function exec(
  agent: TestAgent,
  id: string,
  cmd: string[] | string,
  timeoutSeconds = 10,
): Promise<Executed> {
  const answer = await agent.client.call("ExecSync", {
    container_id: id,
    cmd: typeof cmd === "string" ? ["sh", "-c", cmd] : cmd,
    timeout: Long.fromNumber(timeoutSeconds),
  });
  return {
    stdout: Buffer.from(answer.stdout).toString(),
    stderr: Buffer.from(answer.stderr).toString(),
    exitCode: answer.exit_code,
  };
}

/** Standard output of a command that must succeed. */
export async function out(agent: TestAgent, id: string, cmd: string[] | string): Promise<string> {
  const { stdout, stderr, exitCode } = await exec(agent, id, cmd);
  assert.equal(exitCode, 0, `${JSON.stringify(cmd)}: ${stderr}`);
  return stdout.trimEnd();
}

/** The records of a CRI log file; waits until the writer has been quiet for a moment. */
export async function readLog(path: string): Promise<LogRecord[]> {
  for (let size = -1; ; await sleep(20)) {
    const now = existsSync(path) ? statSync(path).size : 0;
    if (now === size) break;
    size = now;
  }
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => {
    const [, time, stream, tag, text] = /^(\S+) (stdout|stderr) (\S+) (.*)$/s.exec(line) ?? [];
    assert.ok(time && stream && tag && text !== undefined, `not a line of a CRI log: ${JSON.stringify(line)}`);
    return { time, stream, tag, text };
  });
}

/** Waits until a container has written a line. */
export async function untilWritten(agent: TestAgent, id: string, line: string): Promise<void> {
  const { log_path } = await containerStatus(agent, id);
  for (let tries = 0; !(await readLog(log_path ?? "")).some(({ text }) => text === line); tries++) {
    if (tries > 200) throw new Error(`container ${id} has not written ${JSON.stringify(line)}`);
  }
}

/** The call must fail with this code and a sentence like this. */
export async function fails(call: Promise<unknown>, code: keyof typeof status, sentence: RegExp): Promise<void> {
  const error = await call.then(
    () => assert.fail(`expected ${code} ${sentence}, but the call succeeded`),
    (reason: unknown) => reason as { code?: number; details?: string },
  );
  assert.equal(
    `${status[error.code ?? -1] ?? String(error)}`,
    code,
    `expected ${code}, got: ${error.details ?? String(error)}`,
  );
  assert.match(error.details ?? "", sentence);
}

/** The inode of a namespace, as /proc tells it: "net:[4026531840]". */
export function namespaceOf(agent: TestAgent, id: string, name: string): Promise<string> {
  return out(agent, id, ["readlink", `/proc/self/ns/${name}`]);
}

export async function hostPidOf(agent: TestAgent, id: string): Promise<number> {
  const { info } = await agent.client.call("ContainerStatus", { container_id: id, verbose: true });
  return (JSON.parse(info["info"] ?? "{}") as { pid?: number }).pid ?? 0;
}

export async function monitorPidOf(agent: TestAgent, podId: string): Promise<number> {
  const { info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: podId, verbose: true });
  return (JSON.parse(info["info"] ?? "{}") as { pid?: number }).pid ?? 0;
}
