/**
 * Berth as a library: pods in this process, by the same core as the agent's. It needs root and directories that no agent
 * works in; pods outlive the process, and whoever opens the directories next finds them.
 */
import { join } from "node:path";
import { runtime as proto } from "../../cri-proto/generated/runtime.js";
import { bootRuntime } from "../boot.js";
import { checkConfig, type WrittenSettings } from "../config.js";
import { openLog } from "../log.js";
import type { Runtime as Parts } from "../runtime.js";
import { call } from "./calls.js";
import { Pod, type PodRequest, podConfig, podLogs } from "./pod.js";

export type { SpecSubject } from "../../sandbox/adjust-spec.js";
export { BerthError } from "../../sandbox/errors.js";
export type { OciSpec } from "../../sandbox/spec/oci.js";
export type { SpecHook } from "../spec-hooks/spec-hook.js";
export type { Container, ContainerEnd, ExecResult } from "./container.js";
export type { LogLine } from "./log-lines.js";
export type { ContainerRequest, MountRequest, Pod, PodRequest } from "./pod.js";

export interface RuntimeEvent {
  type: "created" | "started" | "stopped" | "deleted";
  /** nanoseconds since 1970 */
  time: bigint;
  podId: string;
  /** a pod's own events have the pod's */
  containerId: string;
}

const eventTypes = ["created", "started", "stopped", "deleted"] as const;

export class Runtime {
  readonly #parts: Parts;
  readonly #unlock: () => void;
  readonly #logs: string;

  private constructor(parts: Parts, unlock: () => void) {
    this.#parts = parts;
    this.#unlock = unlock;
    this.#logs = join(parts.config.root, "logs");
  }

  /**
   * Opens the node, with the settings of `berth serve` (no file is read). FailedPreconditionError: another process works in
   * these directories.
   */
  static async open(settings: WrittenSettings = {}): Promise<Runtime> {
    const config = checkConfig({ "log-level": "error", ...settings }, { values: {}, placeOf: () => undefined });
    const { runtime, unlock } = await bootRuntime(config, openLog(config.logLevel, config.logAreas));
    return new Runtime(runtime, unlock);
  }

  /** Lets go of everything in this process; pods run on. */
  close(): void {
    this.#parts.events.close();
    this.#parts.node.monitors.close();
    this.#parts.node.network.close?.();
    this.#unlock();
  }

  /** Fetches an image, unless it is here. Answers its id. */
  async pull(image: string, signal?: AbortSignal): Promise<string> {
    const { image: found } = await call(this.#parts, "ImageStatus", { image: { image } }, signal);
    if (found?.id) return found.id;
    const { image_ref } = await call(this.#parts, "PullImage", { image: { image } }, signal);
    return image_ref;
  }

  /** Takes the images of an OCI layout or a `docker save` archive, and answers their ids; `name` is given to a single one. */
  async import(path: string, name?: string): Promise<string[]> {
    const images = await this.#parts.images.import({ path, name });
    return images.map((image) => image.id);
  }

  /** Starts a pod without containers. */
  async runPod(request: PodRequest, signal?: AbortSignal): Promise<Pod> {
    const { config, directory } = podConfig(request, this.#logs);
    const { pod_sandbox_id } = await call(this.#parts, "RunPodSandbox", { config }, signal);
    return new Pod(this.#parts, pod_sandbox_id, config, directory);
  }

  /** Those that are there, of earlier processes, too. */
  pods(): Pod[] {
    const pods = this.#parts.node.pods.list();
    return pods.map(({ record, config }) => new Pod(this.#parts, record.id, config, podLogs(config, this.#logs)));
  }

  /** What happens to pods and containers from now on, until the signal aborts. */
  async *events(signal: AbortSignal): AsyncGenerator<RuntimeEvent> {
    try {
      for await (const event of this.#parts.events.subscribe(signal)) {
        const type = eventTypes[event.container_event_type ?? proto.v1.ContainerEventType.CONTAINER_CREATED_EVENT];
        if (type === undefined) continue;
        const podId = event.pod_sandbox_status?.id ?? "";
        yield { type, time: BigInt(String(event.created_at ?? 0)), podId, containerId: event.container_id ?? "" };
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
