import { hostname } from "node:os";
import type { Command } from "commander";
import { addClientOptions, type ClientOptions } from "./client.js";
import { UsageError } from "./failure.js";

interface KubeCommandOptions extends ClientOptions {
  kubeconfig?: string;
  inCluster?: true;
  allowExec?: true;
  node: string;
  prefetch: boolean;
  prefetchRate: string;
  prefetchConfigmap: string;
  metrics: string;
  logLevel: string;
}

/** `berth kube`: nothing of the API server's client is loaded before it is asked for. */
export function addTo(parent: Command): void {
  const command = parent
    .command("kube")
    .description("tell the API server of this node's runtime, and prefetch what it has for the node, until it is ended")
    .option("--kubeconfig <FILE>", "where the API server is, and with which credentials")
    .option("--in-cluster", "with the service account of the pod that this runs in")
    .option("--allow-exec", "programs that the kubeconfig names may be run for credentials")
    .option("--node <NAME>", "the node's name in the cluster", process.env["NODE_NAME"] ?? hostname().toLowerCase())
    .option("--no-prefetch", "prefetch no images")
    .option("--prefetch-rate <BYTES>", "what a prefetch may take in a second, of compressed layers; 0: no limit", "0")
    .option(
      "--prefetch-configmap <NAMESPACE/NAME>",
      "a ConfigMap whose data.images names images to prefetch, one a line",
      "berth-system/image-prefetch",
    )
    .option("--metrics <HOST:PORT|unix:///PATH>", 'where pods\' owners are served to Prometheus; "off": nowhere', "off")
    .option("--log-level <debug|info|warn|error>", "what is written to stderr", "info");
  addClientOptions(command, { json: false }).action(kube);
}

async function kube(options: KubeCommandOptions): Promise<void> {
  const { kubeconfig, inCluster, allowExec = false, node, socket } = options;
  if ((kubeconfig === undefined) === (inCluster === undefined)) {
    throw new UsageError("either --kubeconfig or --in-cluster is needed");
  }
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(node)) throw new UsageError(`--node ${node} is not a node's name`);
  const prefetch = options.prefetch ? parsePrefetch(options) : null;
  const metrics = await parseMetrics(options.metrics);
  const { openLog } = await import("../log.js");
  const log = openLog(parseLevel(options.logLevel));
  const { inClusterSource } = await import("../kube/credentials.js");
  const { runKube } = await import("../kube/main.js");
  const abort = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => abort.abort());
  const source = kubeconfig === undefined ? inClusterSource(process.env) : { kubeconfig, allowExec };
  await runKube({ socket, source, node, prefetch, metrics, log, signal: abort.signal });
  // a prefetch that the agent is at would hold it
  process.exit(0);
}

function parsePrefetch({ prefetchRate, prefetchConfigmap }: KubeCommandOptions) {
  const bytesPerSecond = Number(prefetchRate);
  if (!Number.isSafeInteger(bytesPerSecond) || bytesPerSecond < 0) {
    throw new UsageError(`--prefetch-rate ${prefetchRate} is no number of bytes`);
  }
  const [, namespace = "", name = ""] = /^([-a-z0-9]+)\/([-.a-z0-9]+)$/.exec(prefetchConfigmap) ?? [];
  if (name === "") throw new UsageError(`--prefetch-configmap ${prefetchConfigmap} is not NAMESPACE/NAME`);
  return { bytesPerSecond, configMap: { namespace, name } };
}

async function parseMetrics(text: string): Promise<{ host: string; port: number } | { path: string } | null> {
  if (text === "off") return null;
  if (text.startsWith("unix:///")) return { path: text.slice("unix://".length) };
  const { parseAddress } = await import("../config.js");
  const address = parseAddress(text);
  if (address === null) throw new UsageError(`--metrics ${text} is neither HOST:PORT nor unix:///PATH nor "off"`);
  return address;
}

function parseLevel(text: string): "debug" | "info" | "warn" | "error" {
  for (const level of ["debug", "info", "warn", "error"] as const) if (level === text) return level;
  throw new UsageError(`--log-level ${text} is not debug, info, warn or error`);
}
