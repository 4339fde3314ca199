import type { Command } from "commander";
import { Forwarder } from "../log-forwarding/forwarder.js";
import { openJournald } from "../log-forwarding/journald.js";
import { openOtlp } from "../log-forwarding/otlp.js";
import { Positions } from "../log-forwarding/positions.js";
import type { Sink } from "../log-forwarding/sink.js";
import { addClientOptions, type ClientOptions, connect } from "./client.js";
import { UsageError } from "./failure.js";
import { collect, parseHeaders, parseHttpUrl } from "./http-options.js";

interface ForwardLogsOptions extends ClientOptions {
  journald?: string | true;
  otlp?: string;
  header: string[];
  namespace: string[];
  state: string;
}

const journalSocket = "/run/systemd/journal/socket";
/** What a receiver has left for its answer when this is to end. */
const lastAnswerMs = 5_000;

export function addTo(parent: Command): void {
  const command = parent
    .command("forward-logs")
    .description("pass on what containers write to the journal or to an OpenTelemetry collector, until it is ended")
    .option("--journald [PATH]", `to systemd's journal, at ${journalSocket} when no other socket is named`)
    .option("--otlp <URL>", "to a receiver of OTLP/HTTP in JSON: http://HOST:4318/v1/logs")
    .option("--header <NAME=VALUE>", "sent with each request of --otlp; may be given again", collect, [])
    .option("--namespace <NAME>", "only of pods of this namespace; may be given again", collect, [])
    .option("--state <FILE>", "what has been passed on already", "/var/lib/berth-forward-logs/positions.json");
  addClientOptions(command, { json: false }).action(forwardLogs);
}

async function forwardLogs(options: ForwardLogsOptions): Promise<void> {
  const stop = new AbortController();
  const giveUp = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      stop.abort();
      // what is on its way is waited for: sent again by the next one, it would be there twice
      setTimeout(() => giveUp.abort(), lastAnswerMs).unref();
    });
  }
  const tell = (sentence: string): void => void process.stderr.write(`${sentence}\n`);
  const positions = new Positions(options.state);
  const sink = await openSink(options, tell, giveUp.signal);
  const client = connect(options.socket);
  try {
    const { namespace: namespaces } = options;
    await new Forwarder({ client, sink, positions, namespaces, tell, signal: stop.signal }).run();
  } finally {
    client.close();
    await sink.close();
  }
}

async function openSink(options: ForwardLogsOptions, tell: (sentence: string) => void, signal: AbortSignal) {
  const { journald, otlp } = options;
  if ((journald === undefined) === (otlp === undefined)) throw new UsageError("either --journald or --otlp is needed");
  const sink: Sink =
    otlp === undefined
      ? openJournald(journald === true || journald === undefined ? journalSocket : journald, tell, signal)
      : await openOtlp({
          url: parseHttpUrl("--otlp", otlp),
          headers: parseHeaders(options.header),
          onTrouble: tell,
          signal,
        });
  return sink;
}
