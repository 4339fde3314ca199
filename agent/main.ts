/** The agent's boot order: configuration, locks, what the host can do, recovery, metrics, and then the socket. */

import type { Check } from "../metrics/health.js";
import type { FinishedCall } from "../metrics/own.js";
import { type MetricsServer, startMetricsServer } from "../metrics/server.js";
import { native } from "../native/binding.js";
import { FailedPreconditionError, messageOf } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import { bootRuntime } from "./boot.js";
import { callTable } from "./call-table.js";
import type { CallSurroundings } from "./call-wrapper.js";
import type { Config } from "./config.js";
import { keepTexts, type StartConfig } from "./configuration/in-force.js";
import { type ConfigSource, followConfig } from "./configuration/reload.js";
import { reportCrashes } from "./crash-reports.js";
import type { Finding } from "./doctor.js";
import { serveKube } from "./kube-socket.js";
import { type Log, openLog } from "./log.js";
import { readinessOf } from "./readiness.js";
import type { Runtime } from "./runtime.js";
import { tellDenials } from "./seccomp-denials.js";
import { serveCri } from "./server.js";
import { openServiceManager } from "./service-manager.js";
import type { Tracer } from "./tracing/tracer.js";
import { runtimeVersion } from "./version.js";

const releaseAfterStartMs = 5_000;
const releaseEveryMs = 60_000;

/** Runs until SIGTERM or SIGINT. Pods do not notice its end, whichever way it comes. */
export async function runAgent({ config, texts, refused }: StartConfig, source: ConfigSource): Promise<void> {
  const log = openLog(config.logLevel, config.logAreas);
  const manager = openServiceManager(process.env, log);
  if (refused !== null) log.error(`the configuration is refused, and the one before stays in force: ${refused}`);
  const { runtime } = await bootRuntime(config, log);
  const { node } = runtime;
  reportCrashes(config.root, runtime, log);
  tellFindings(await runtime.examine(), log);

  await runtime.streams.listen();
  let isEnding = false;
  const metrics = await serveMetrics(
    runtime,
    readinessOf(runtime, () => isEnding),
  );
  const observeCall = (call: FinishedCall) => metrics?.observeCall(call);

  // everything is known before the first call: whoever gets an answer from Version can go on
  const tracer = await openTracer(config, node, log);
  const around = { log, observeCall, recentCalls: runtime.recentCalls, tracer };
  const socket = { path: config.listen, passed: manager.listener };
  const server = await serveCri(socket, runtime, callTable, around);
  const kubeServer = await serveKubeIfAsked(config, runtime, around);
  log.info({ listen: config.listen, metrics: metrics?.where ?? null, pods: node.pods.size }, "ready");

  releaseMemoryAtTimes(log);
  keepTexts(config.run, texts);
  tellDenials(node, log);
  followConfig(runtime, source, texts, log, manager);
  const told = untilTold();
  manager.ready(
    refused === null ? "serving" : `the configuration is refused, and the one before stays in force: ${refused}`,
  );
  const signal = await told;
  log.info({ signal }, "ending; pods run on");
  isEnding = true;
  const managerKnows = manager.stopping();
  runtime.events.close();
  runtime.happenings.close();
  await Promise.all([server.close(), kubeServer?.close()]);
  runtime.streams.close();
  node.network.close?.();
  await metrics?.close();
  await managerKnows;
  // monitors' connections and watched processes would keep the event loop alive
  process.exit(0);
}

/** Pods do not need it: what is in its way is told, and no more. */
async function serveKubeIfAsked({ kubeSocket }: Config, runtime: Runtime, around: CallSurroundings) {
  if (kubeSocket === null) return undefined;
  try {
    return await serveKube(kubeSocket, runtime, callTable, around);
  } catch (error) {
    around.log.error(`kube-socket cannot be served: ${messageOf(error)}`);
    return undefined;
  }
}

async function serveMetrics({ config, node }: Runtime, readiness: readonly Check[]): Promise<MetricsServer | null> {
  const { metrics: address, metricsWebConfig, metricsPodLabels: podLabels } = config;
  if (address === null) return null;
  // its YAML reader takes a twentieth of the start
  const webConfig =
    metricsWebConfig === null ? null : (await import("../metrics/web-config.js")).openWebConfig(metricsWebConfig);
  try {
    return await startMetricsServer({ ...address, version: runtimeVersion, webConfig, podLabels, readiness }, node);
  } catch (error) {
    const where = "path" in address ? `unix://${address.path}` : `${address.host}:${address.port}`;
    throw new FailedPreconditionError(`/metrics cannot be served (--metrics ${where}): ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** What it needs is loaded only when somebody wants traces. */
async function openTracer({ traces }: Config, node: SandboxNode, log: Log): Promise<Tracer | undefined> {
  if (traces === null) return undefined;
  const [{ Tracer }, { SpanSender }] = await Promise.all([
    import("./tracing/tracer.js"),
    import("./tracing/span-sender.js"),
  ]);
  const sender = new SpanSender(new URL(traces), log);
  const tracer = new Tracer((span) => sender.send(span));
  tracer.listen(node.observer);
  return tracer;
}

/**
 * A start maps tens of megabytes of Node that are never used again, and the buffers of a pull leave holes in malloc's heap
 * that it keeps. Taking them back costs a millisecond or two, on another thread.
 */
function releaseMemoryAtTimes(log: Log): void {
  const release = () =>
    native
      .releaseUnusedMemory()
      .catch((error: unknown) => log.warn(`memory cannot be given back: ${messageOf(error)}`));
  setTimeout(release, releaseAfterStartMs).unref();
  setInterval(release, releaseEveryMs).unref();
}

function untilTold(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, resolve);
  });
}

function tellFindings(findings: readonly Finding[], log: Log): void {
  for (const { severity, what, consequence, remedy } of findings) {
    log[severity === "note" ? "info" : "warn"](`${what}: ${consequence}. ${remedy}`);
  }
}
