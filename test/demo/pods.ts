/** The demo's pods and containers: made and looked at through the CRI, with the crictl line of each call. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import Long from "long";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import * as workload from "../support/workload.js";
import { quoted } from "./screen.js";
import type { Demo } from "./setup.js";

export interface DemoPod extends workload.RunningPod {
  name: string;
}

export interface DemoContainer {
  name: string;
  id: string;
}

export interface DemoConfig {
  command: string[];
  resources?: runtime.v1.ILinuxContainerResources;
  security?: runtime.v1.ILinuxContainerSecurityContext;
}

/** What the runtime tells of a container beyond the CRI's fields ("info" of a verbose ContainerStatus). */
export interface ContainerInfo {
  /** of its PID 1, in the host's numbers */
  pid: number;
  /** from each hierarchy's root */
  cgroupPath: string;
  /** chain ids, bottom first */
  layers: string[];
}

/** As much of an id as crictl shows. */
export function shortId({ id }: { id: string }): string {
  return id.slice(0, 13);
}

export async function startPod({ agent, screen }: Demo, name: string): Promise<DemoPod> {
  const pod = await workload.runPod(agent, {
    metadata: { name, namespace: "demo", uid: randomBytes(8).toString("hex"), attempt: 0 },
    hostname: name,
    log_directory: join(agent.paths.logs, name),
  });
  screen.crictl(`runp ${name}.json`, pod.id);
  return { ...pod, name };
}

export async function createContainer(
  demo: Demo,
  pod: DemoPod,
  name: string,
  config: DemoConfig,
): Promise<DemoContainer> {
  const { command, resources, security = {} } = config;
  const security_context = { namespace_options: { pid: workload.NamespaceMode.CONTAINER }, ...security };
  const shown = { command, linux: { ...(resources && { resources }), security_context } };
  const id = await workload.createContainer(demo.agent, pod, {
    metadata: { name, attempt: 0 },
    image: { image: demo.imageName },
    log_path: `${name}.log`,
    ...shown,
  });
  demo.screen.file(`${name}.json`, toJson(shown));
  demo.screen.crictl(`create ${shortId(pod)} ${name}.json ${pod.name}.json`, id);
  return { name, id };
}

/** The parts of a ContainerConfig that the screens are about, as crictl reads them: JSON on one line. */
function toJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toJson).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Long.isLong(value)) return value.toString();
  const fields = Object.entries(value).map(([name, field]) => `"${name}": ${toJson(field)}`);
  return `{${fields.join(", ")}}`;
}

export async function startContainer({ agent, screen }: Demo, container: DemoContainer): Promise<void> {
  await agent.client.call("StartContainer", { container_id: container.id });
  screen.crictl(`start ${shortId(container)}`);
}

export async function runContainer(demo: Demo, pod: DemoPod, name: string, config: DemoConfig): Promise<DemoContainer> {
  const container = await createContainer(demo, pod, name, config);
  await startContainer(demo, container);
  return container;
}

/** Runs a command in a container by ExecSync, and shows it with what it wrote. */
export async function exec(
  { agent, screen }: Demo,
  container: DemoContainer,
  command: string[],
): Promise<workload.Executed> {
  const done = await workload.exec(agent, container.id, command);
  const code = done.exitCode === 0 ? "" : `(${container.name}: exit code ${done.exitCode})`;
  const output = [done.stdout, done.stderr, code].map((text) => text.trimEnd()).filter((text) => text !== "");
  screen.crictl(`exec -s ${shortId(container)} ${quoted(command)}`, output.join("\n"));
  return done;
}

export async function infoOf({ agent }: Demo, { id }: DemoContainer): Promise<ContainerInfo> {
  const { info } = await agent.client.call("ContainerStatus", { container_id: id, verbose: true });
  return JSON.parse(info["info"] ?? "{}") as ContainerInfo;
}

/** Stops and removes pods with all that is in them. */
export async function removePods({ agent, screen }: Demo, pods: DemoPod[]): Promise<void> {
  for (const pod of pods) await workload.removePod(agent, pod);
  const ids = pods.map(shortId).join(" ");
  screen.crictl(`stopp ${ids} && crictl rmp ${ids}`);
}
