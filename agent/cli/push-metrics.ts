import { hostname } from "node:os";
import { type Command, InvalidArgumentError } from "commander";
import type { Labels } from "../metrics-push/families.js";
import { encodeOtlp } from "../metrics-push/otlp-metrics.js";
import { Pusher } from "../metrics-push/pusher.js";
import { encodeRemoteWrite } from "../metrics-push/remote-write.js";
import { Scraper } from "../metrics-push/scraper.js";
import { UsageError } from "./failure.js";
import { collect, parseHeaders, parseHttpUrl } from "./http-options.js";

interface PushMetricsOptions {
  remoteWrite?: string;
  otlp?: string;
  header: string[];
  label: string[];
  every: number;
  from: string;
}

export function addTo(parent: Command): void {
  parent
    .command("push-metrics")
    .description("send what /metrics says to a Prometheus or an OpenTelemetry collector, until it is ended")
    .option("--remote-write <URL>", "to a receiver of Prometheus' remote write: http://HOST:9090/api/v1/write")
    .option("--otlp <URL>", "to a receiver of OTLP/HTTP in JSON: http://HOST:4318/v1/metrics")
    .option("--header <NAME=VALUE>", "sent with each request; may be given again", collect, [])
    .option(
      "--label <NAME=VALUE>",
      "of all series; may be given again (default: job=berth, instance=this host)",
      collect,
      [],
    )
    .option("--every <SECONDS>", "how often, from 1 to 3600", parseSeconds, 15)
    .option("--from <URL>", "the agent's /metrics, or unix:///PATH", "http://127.0.0.1:9464/metrics")
    .action(pushMetrics);
}

async function pushMetrics(options: PushMetricsOptions): Promise<void> {
  const { remoteWrite, otlp } = options;
  if ((remoteWrite === undefined) === (otlp === undefined))
    throw new UsageError("either --remote-write or --otlp is needed");
  const url = otlp === undefined ? parseHttpUrl("--remote-write", remoteWrite) : parseHttpUrl("--otlp", otlp);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const scraper = new Scraper(options.from);
  await new Pusher({
    ...{ scraper, url },
    headers: parseHeaders(options.header),
    encode: otlp === undefined ? encodeRemoteWrite() : encodeOtlp(),
    labels: parseLabels(options.label),
    everyMs: options.every * 1000,
    tell: (sentence) => void process.stderr.write(`${sentence}\n`),
    signal: stop.signal,
  }).run();
  await scraper.close();
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 1 && seconds <= 3600)) throw new InvalidArgumentError("A number from 1 to 3600 is wanted.");
  return seconds;
}

function parseLabels(texts: readonly string[]): Labels {
  const labels = new Map([
    ["job", "berth"],
    ["instance", hostname()],
  ]);
  for (const text of texts) {
    const [, name = "", value = ""] = /^([a-zA-Z_]\w*)=(.*)$/s.exec(text) ?? [];
    if (name === "") throw new UsageError(`--label ${text} is not NAME=VALUE, with a name of letters, digits and _`);
    labels.set(name, value);
  }
  return [...labels];
}
