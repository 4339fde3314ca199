/**
 * What the node's object is told: whether the runtime is healthy, and what it can do. One strategic merge patch of
 * nodes/status, as the kubelet sends them: labels, annotations and conditions of others stay as they are.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { V1NodeCondition } from "@kubernetes/client-node";
import type { runtime } from "../../cri-proto/generated/runtime.js";
import { messageOf } from "../../sandbox/errors.js";
import type { Client } from "../cli/client.js";
import { sentenceOf } from "../cli/failure.js";
import type { Finding } from "../doctor.js";
import { type ApiClient, ApiError } from "./api-client.js";
import { BackOff } from "./back-off.js";
import type { Said } from "./said.js";

export const conditionType = "BerthHealthy";

export interface NodeStatusOptions {
  api: Pick<ApiClient, "call">;
  client: Pick<Client, "call">;
  said: Said;
  node: string;
  signal: AbortSignal;
  /** the agent is asked so often; absent: 10 s */
  everyMs?: number;
}

type Health = Pick<V1NodeCondition, "status" | "reason" | "message">;

interface NodeFacts {
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

const heartbeatMs = 5 * 60_000;
const maxMessage = 1_000;

/** Until the signal. What cannot be said is said later. */
export async function tellNodeStatus(options: NodeStatusOptions): Promise<void> {
  const { client, said, signal, everyMs = 10_000 } = options;
  const backOff = new BackOff(1_000, 60_000);
  const teller = new Teller(options);
  while (!signal.aborted) {
    const seen = await look(client);
    try {
      await teller.tell(seen.health, seen.facts);
      backOff.reset();
      said.over("node", "the node's status is told again");
      await sleep(everyMs, undefined, { signal }).catch(() => undefined);
    } catch (error) {
      if (signal.aborted) return;
      said.trouble("node", `the node's status cannot be told: ${messageOf(error)}`);
      await backOff.pause(signal, error);
    }
  }
}

class Teller {
  #told: { at: number; text: string } | undefined;
  #condition: V1NodeCondition | undefined;
  #facts: NodeFacts = { labels: {}, annotations: {} };

  constructor(private readonly options: NodeStatusOptions) {}

  /** @param facts undefined: the agent did not answer, and they stay as they were */
  async tell(health: Health, facts: NodeFacts | undefined): Promise<void> {
    const { api, node, signal } = this.options;
    this.#facts = facts ?? this.#facts;
    const text = JSON.stringify([health, this.#facts]);
    if (this.#told?.text === text && performance.now() - this.#told.at < heartbeatMs) return;
    this.#condition ??= await this.#before();
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const since = this.#condition?.status === health.status ? this.#condition.lastTransitionTime : undefined;
    const condition = { type: conditionType, ...health, lastHeartbeatTime: now, lastTransitionTime: since ?? now };
    await api.call({
      method: "PATCH",
      path: `/api/v1/nodes/${encodeURIComponent(node)}/status`,
      contentType: "application/strategic-merge-patch+json",
      body: { metadata: this.#facts, status: { conditions: [condition] } },
      signal,
    });
    this.#condition = condition as unknown as V1NodeCondition;
    this.#told = { at: performance.now(), text };
  }

  /** The condition as an earlier process has left it: a restart is no transition. */
  async #before(): Promise<V1NodeCondition | undefined> {
    const { api, node, signal } = this.options;
    try {
      const path = `/api/v1/nodes/${encodeURIComponent(node)}`;
      const found = await api.call<{ status?: { conditions?: V1NodeCondition[] } }>({ method: "GET", path, signal });
      return found.status?.conditions?.find(({ type }) => type === conditionType);
    } catch (error) {
      // who may patch and not read has no earlier condition to keep
      if (error instanceof ApiError && error.status === 403) return undefined;
      throw error;
    }
  }
}

async function look(client: Pick<Client, "call">): Promise<{ health: Health; facts?: NodeFacts }> {
  try {
    const [status, version] = await Promise.all([
      client.call("Status", { verbose: true }, 10_000),
      client.call("Version", {}, 10_000),
    ]);
    const info = JSON.parse(status.info["info"] ?? "{}") as Partial<VerboseInfo>;
    return { health: healthOf(info.findings ?? []), facts: factsOf(status, info, version.runtime_version ?? "") };
  } catch (error) {
    return {
      health: { status: "False", reason: "AgentUnreachable", message: cut(sentenceOf(error)) },
    };
  }
}

/** As calls/status.ts writes it. */
interface VerboseInfo {
  findings: readonly Finding[];
  config: { storageDriver: string; network: string; cgroupDriver: string };
  kernel: { release: string; seccomp: boolean };
  cgroup: { mode: string };
}

/** The reason is the gravest error's; warnings are told, and leave the node healthy. */
export function healthOf(findings: readonly Pick<Finding, "id" | "severity" | "what" | "consequence">[]): Health {
  const told = findings.filter(({ severity }) => severity !== "note");
  const message = cut(told.map(({ what, consequence }) => `${what}: ${consequence}.`).join(" "));
  const error = findings.find(({ severity }) => severity === "error");
  if (error !== undefined) return { status: "False", reason: error.id, message };
  return { status: "True", reason: "BerthIsHealthy", message: message || "nothing is wrong" };
}

/** Labels are what a scheduler may choose by. */
export function factsOf(
  status: Pick<runtime.v1.IStatusResponse, "runtime_handlers">,
  { config, kernel, cgroup }: Partial<VerboseInfo>,
  version: string,
): NodeFacts {
  const handlers = (status.runtime_handlers ?? []).map(({ name }) => name || "default");
  const userNamespaces = status.runtime_handlers?.some(({ features }) => features?.user_namespaces) ?? false;
  return {
    labels: {
      "berth.dev/cgroup-version": cgroup?.mode ?? "unknown",
      "berth.dev/user-namespaces": String(userNamespaces),
      "berth.dev/seccomp": String(kernel?.seccomp ?? false),
      "berth.dev/storage-driver": config?.storageDriver ?? "unknown",
    },
    annotations: {
      "berth.dev/version": version,
      "berth.dev/runtime-handlers": handlers.join(","),
      "berth.dev/network": config?.network ?? "unknown",
      "berth.dev/cgroup-driver": config?.cgroupDriver ?? "unknown",
    },
  };
}

function cut(text: string): string {
  return text.length > maxMessage ? `${text.slice(0, maxMessage)} [...]` : text;
}
