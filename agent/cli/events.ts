import { type Command, InvalidArgumentError } from "commander";
import Long from "long";
import type { berth } from "../../cri-proto/generated/admin.js";
import { happeningTypes } from "../happening-types.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { parseSince } from "./logs.js";
import { jsonOptions, printable, shortId } from "./output.js";

interface Options extends ClientOptions {
  follow?: boolean;
  since?: string;
  type: string[];
}

export function addTo(parent: Command): void {
  const collect = (value: string, all: string[]) => {
    if (!happeningTypes.includes(value)) throw new InvalidArgumentError(`The types are ${happeningTypes.join(", ")}.`);
    return [...all, value];
  };
  const command = parent
    .command("events")
    .description("tell what has happened on this node: ends, kills for memory, repairs, failures that are tried again")
    .option("-f, --follow", "tell also what happens from now on, until Ctrl-C")
    .option("--since <DURATION|TIME>", "leave out what is older: 90s, 5m, 2h, 1d, or a time as in RFC 3339")
    .option(
      "--type <TYPE>",
      "only of this type; may be given again (oom, repaired, trouble, container-event ...)",
      collect,
      [],
    );
  addClientOptions(command).action(events);
}

async function events({ follow, since, type, json, ...options }: Options): Promise<void> {
  const after = since === undefined ? Long.ZERO : Long.fromString(`${Date.parse(parseSince(since, Date.now()))}000000`);
  const request = { after, types: type, remembered_only: !follow };
  await withClient(options, async (client) => {
    for await (const happening of client.stream("WatchHappenings", request)) {
      process.stdout.write(json ? `${JSON.stringify(happening, jsonReplacer)}\n` : line(happening));
    }
  });
}

/** 64-bit numbers as strings, as everywhere in --json */
function jsonReplacer(_key: string, value: unknown): unknown {
  return Long.isLong(value) ? jsonOptions.longs(value.toString()) : value;
}

function line({
  at,
  severity,
  type,
  message,
  pod_namespace,
  pod_name,
  container_name,
  container_id,
}: berth.v1.IHappening): string {
  const time = new Date(Number(BigInt(String(at ?? 0)) / 1_000_000n)).toISOString();
  const names = [pod_namespace, pod_name, container_name].filter(Boolean).join("/");
  const who = names || shortId(container_id ?? "");
  const text = [time, (severity ?? "").padEnd(7), (type ?? "").padEnd(15), who && `${who}:`, message].filter(Boolean);
  return `${printable(text.join(" ")).replace(/\n/g, " ")}\n`;
}
