/** /metrics of `berth kube`: which workload each pod of the node belongs to, to be joined with what the agent tells of pods. */
import { chmodSync } from "node:fs";
import { createServer } from "node:http";
import { heading, labelText } from "../../metrics/text.js";
import { makeWayForSocket } from "../../sandbox/listening-socket.js";
import type { KnownPod } from "./pods.js";

export type ListenAddress = { readonly host: string; readonly port: number } | { readonly path: string };

const labels = ["namespace", "pod", "uid", "owner_kind", "owner_name"];
const instrument = {
  name: "berth_pod_owner",
  help: "Whose a pod of this node is: its controller; the Deployment of a ReplicaSet, the CronJob of a Job.",
  type: "gauge",
  labels,
} as const;
const connectionLimit = 32;
const patienceMs = 10_000;

/** Until the signal. Answers when it listens: "127.0.0.1:9465" or "unix:///PATH". Rejects with node's error when it cannot. */
export async function serveOwners(
  address: ListenAddress,
  pods: () => Iterable<KnownPod>,
  signal: AbortSignal,
): Promise<string> {
  const server = createServer((request, response) => {
    request.resume();
    const found = request.url?.split("?")[0] === "/metrics" && request.method === "GET";
    response.writeHead(found ? 200 : 404, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" });
    response.end(found ? ownersText(pods()) : "metrics are at /metrics\n");
  });
  server.maxConnections = connectionLimit;
  server.headersTimeout = patienceMs;
  server.requestTimeout = patienceMs;
  server.setTimeout(patienceMs);
  if ("path" in address) await makeWayForSocket(address.path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(address, () => resolve());
  });
  if ("path" in address) chmodSync(address.path, 0o660);
  signal.addEventListener("abort", () => server.close());
  const bound = server.address();
  return typeof bound === "string" || bound === null ? `unix://${bound}` : `${bound.address}:${bound.port}`;
}

/** One series for a name: a pod that ends and its successor of the same name would make a join ambiguous. */
export function ownersText(pods: Iterable<KnownPod>): string {
  const lines = new Map<string, string>();
  for (const { namespace, name, uid, workload } of pods) {
    const text = labelText(labels, [namespace, name, uid, workload.kind, workload.name]);
    lines.set(`${namespace}/${name}`, `${instrument.name}{${text}} 1\n`);
  }
  return heading(instrument, false) + [...lines.values()].join("");
}
