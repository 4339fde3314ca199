import { rm } from "node:fs/promises";
import { join } from "node:path";
import Long from "long";
import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { makeDirectories } from "../../sandbox/directories.js";
import type { Runtime } from "../runtime.js";
import { call } from "./calls.js";
import { Container } from "./container.js";

export interface MountRequest {
  /** on this host */
  source: string;
  /** in the container */
  destination: string;
  readonly?: boolean;
}

export interface ContainerRequest {
  /** one that is here: pull() or import() first */
  image: string;
  /** absent: the image's name, with a number */
  name?: string;
  /** in place of the image's ENTRYPOINT */
  command?: readonly string[];
  /** in place of the image's CMD */
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  mounts?: readonly MountRequest[];
  /** absent: the image's */
  user?: number;
  memoryBytes?: number;
  /** 1.5: one and a half processors */
  cpus?: number;
  /** everything else that the CRI has; it wins over what is above */
  more?: proto.v1.IContainerConfig;
}

const { NamespaceMode } = proto.v1;
const periodUs = 100_000;

/** A pod: containers that share a network, a host name and IPC. */
export class Pod {
  #made = 0;

  constructor(
    private readonly runtime: Runtime,
    readonly id: string,
    private readonly config: proto.v1.IPodSandboxConfig,
    /** where its containers' logs are, unless the request says otherwise */
    private readonly logs: string,
  ) {}

  /** Its addresses, the primary one first. */
  async addresses(): Promise<string[]> {
    const { status } = await call(this.runtime, "PodSandboxStatus", { pod_sandbox_id: this.id });
    const { ip, additional_ips } = status?.network ?? {};
    return [ip, ...(additional_ips ?? []).map((more) => more.ip)].filter((address): address is string =>
      Boolean(address),
    );
  }

  /** Makes and starts a container with RuntimeDefault seccomp and a PID namespace of its own. Nothing stays of one that fails. */
  async run(request: ContainerRequest, signal?: AbortSignal): Promise<Container> {
    const config = this.#containerConfig(request);
    const log = join(this.config.log_directory ?? "", config.log_path ?? "");
    const asked = { pod_sandbox_id: this.id, config, sandbox_config: this.config };
    const { container_id } = await call(this.runtime, "CreateContainer", asked, signal);
    try {
      await call(this.runtime, "StartContainer", { container_id }, signal);
    } catch (error) {
      await call(this.runtime, "RemoveContainer", { container_id });
      throw error;
    }
    return new Container(this.runtime, container_id, log);
  }

  /** Kills everything in it, and takes its network away. */
  async stop(): Promise<void> {
    await call(this.runtime, "StopPodSandbox", { pod_sandbox_id: this.id });
  }

  /** Stops it, if it is not, and forgets it with its containers and their logs. */
  async remove(): Promise<void> {
    await call(this.runtime, "RemovePodSandbox", { pod_sandbox_id: this.id });
    // the kubelet does that for its own; a directory of the caller's choice is the caller's
    if (this.config.log_directory === this.logs) await rm(this.logs, { recursive: true, force: true });
  }

  #containerConfig(request: ContainerRequest): proto.v1.IContainerConfig {
    const name = request.name ?? `container-${this.#made++}`;
    return {
      metadata: { name },
      image: { image: request.image },
      command: [...(request.command ?? [])],
      args: [...(request.args ?? [])],
      envs: Object.entries(request.env ?? {}).map(([key, value]) => ({ key, value: Buffer.from(value) })),
      working_dir: request.cwd ?? "",
      mounts: (request.mounts ?? []).map(({ source, destination, readonly }) => ({
        host_path: source,
        container_path: destination,
        readonly: readonly ?? false,
      })),
      log_path: `${name}.log`,
      linux: {
        resources: {
          ...(request.memoryBytes !== undefined && { memory_limit_in_bytes: Long.fromNumber(request.memoryBytes) }),
          ...(request.cpus !== undefined && {
            cpu_period: Long.fromNumber(periodUs),
            cpu_quota: Long.fromNumber(Math.round(request.cpus * periodUs)),
          }),
        },
        security_context: {
          namespace_options: { pid: NamespaceMode.CONTAINER },
          seccomp: { profile_type: proto.v1.SecurityProfile.ProfileType.RuntimeDefault },
          ...(request.user !== undefined && { run_as_user: { value: Long.fromNumber(request.user) } }),
        },
      },
      ...request.more,
    };
  }
}

/** What the CRI calls a pod: its name, and where its containers' logs are. */
export function podConfig(
  request: PodRequest,
  logs: string,
): { config: proto.v1.IPodSandboxConfig; directory: string } {
  const { name, namespace = "default", uid = name } = request;
  const metadata = { name, namespace, uid };
  const directory = podLogs({ metadata }, logs);
  makeDirectories(directory, 0o755);
  const config = {
    metadata,
    hostname: name,
    log_directory: directory,
    labels: { ...request.labels },
    linux: { security_context: { namespace_options: { pid: NamespaceMode.CONTAINER } } },
    ...request.more,
  };
  return { config, directory };
}

/** As the kubelet calls the directory. */
export function podLogs({ metadata }: Pick<proto.v1.IPodSandboxConfig, "metadata">, logs: string): string {
  return join(logs, [metadata?.namespace, metadata?.name, metadata?.uid].join("_"));
}

export interface PodRequest {
  name: string;
  /** absent: "default" */
  namespace?: string;
  /** absent: the name */
  uid?: string;
  labels?: Readonly<Record<string, string>>;
  /** everything else that the CRI has; it wins over what is above */
  more?: proto.v1.IPodSandboxConfig;
}
