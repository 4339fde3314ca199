/** `berth debug`: the agent itself, over its own socket; none of it can be reached by a port. */
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Command, InvalidArgumentError } from "commander";
import type { berth } from "../../cri-proto/generated/admin.js";
import type { RecentActivity } from "../recent-activity.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printJson, printTable, shortId } from "./output.js";

interface FileOptions extends ClientOptions {
  output?: string;
  seconds?: number;
}

interface ActivityOptions extends ClientOptions {
  request?: string;
}

export function addTo(parent: Command): void {
  const cpu = parent
    .command("cpu")
    .description("write where the agent's processor time goes, for Chrome's DevTools or VS Code (.cpuprofile)")
    .option("--seconds <N>", "for so long, 300 at most (default: 10)", seconds)
    .option("-o, --output <FILE>", "not there yet (default: berth-TIME.cpuprofile)");
  addClientOptions(cpu, { json: false }).action((options: FileOptions) =>
    writeFile(options, "cpuprofile", (client) => client.stream("ProfileCpu", { seconds: options.seconds ?? 10 })),
  );
  const heap = parent
    .command("heap")
    .description(
      "write what is on the agent's heap, for Chrome's DevTools (.heapsnapshot); it stands still for a second or a few. " +
        "Whoever has the file can read what the agent knows, credentials of registries too",
    )
    .option("-o, --output <FILE>", "not there yet (default: berth-TIME.heapsnapshot)");
  addClientOptions(heap, { json: false }).action((options: FileOptions) =>
    writeFile(options, "heapsnapshot", (client) => client.stream("SnapshotHeap", {})),
  );
  const events = parent
    .command("events")
    .description(
      "print which calls run, and the last calls and events. By its REQUEST, the trace id where the caller has one, a call is " +
        "found in the agent's log, and in the file monitor.log of its pod",
    )
    .option("--request <ID>", "only what was of this call");
  addClientOptions(events).action(printActivity);
}

function seconds(text: string): number {
  if (/^\d{1,3}$/.test(text) && Number(text) >= 1 && Number(text) <= 300) return Number(text);
  throw new InvalidArgumentError("A whole number from 1 to 300 is wanted.");
}

type Connected = Parameters<Parameters<typeof withClient>[1]>[0];

async function writeFile(
  { output, ...options }: FileOptions,
  ending: string,
  ask: (client: Connected) => AsyncIterable<berth.v1.IDebugPiece>,
): Promise<void> {
  const path = output ?? `berth-${new Date().toISOString().replace(/[:.]/g, "-")}.${ending}`;
  await withClient(options, async (client) => {
    const pieces = async function* () {
      for await (const { data } of ask(client)) yield data;
    };
    const file = createWriteStream(path, { flags: "wx", mode: 0o600 });
    try {
      await pipeline(Readable.from(pieces()), file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") await rm(path, { force: true });
      throw error;
    }
  });
  process.stdout.write(`${path}\n`);
}

async function printActivity(options: ActivityOptions): Promise<void> {
  await withClient(options, async (client) => {
    const { json } = await client.call("ListRecentActivity", {});
    const all = JSON.parse(json) as RecentActivity;
    const wanted = ({ request }: { request?: string }) => options.request === undefined || request === options.request;
    const activity: RecentActivity = {
      running: all.running.filter(wanted),
      calls: all.calls.filter(wanted),
      events: all.events.filter(wanted),
    };
    if (options.json) return printJson(activity);
    const subject = ({ image, container, pod }: { image?: string; container?: string; pod?: string }) =>
      image ?? shortId(container ?? pod ?? "");
    const lines: string[][] = [
      ...activity.calls.map((call) => [
        call.at,
        call.method,
        `${call.ms} ms`,
        call.code,
        call.request,
        subject(call),
        call.error ?? "",
      ]),
      ...activity.running.map((call) => [
        call.at,
        call.method,
        `${call.ms} ms`,
        "runs",
        call.request,
        subject(call),
        "",
      ]),
      ...activity.events.map((event) => [
        event.at,
        event.type,
        "",
        event.severity,
        event.request ?? "",
        subject(event),
        event.message,
      ]),
    ];
    lines.sort(([one = ""], [other = ""]) => (one < other ? -1 : one > other ? 1 : 0));
    printTable(["TIME", "WHAT", "TOOK", "OUTCOME", "REQUEST", "ABOUT", "MESSAGE"], lines);
  });
}
