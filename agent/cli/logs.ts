import { setTimeout as sleep } from "node:timers/promises";
import { status as codes, type ServiceError } from "@grpc/grpc-js";
import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { UsageError } from "./failure.js";
import { openLogFollower } from "./log-follower.js";

const { ContainerState } = runtime.v1;

interface LogsOptions extends ClientOptions {
  follow?: boolean;
  since?: string;
  tail?: string;
}

/** How often the log, and now and then the container, is looked at. */
const pollMs = 100;
const pollsPerState = 10;

export function addTo(parent: Command): void {
  const command = parent
    .command("logs <CONTAINER>")
    .description("print what a container has written; with its log file's rotation when it is followed")
    .option("-f, --follow", "go on until the container has ended")
    .option("--since <DURATION|TIME>", "leave out what is older: 90s, 1h30m, 1d, or a time as in RFC 3339")
    .option("--tail <LINES>", "only the last lines of those that are there");
  addClientOptions(command).action(logs);
}

async function logs(container: string, options: LogsOptions): Promise<void> {
  const since = options.since === undefined ? {} : { since: parseSince(options.since, Date.now()) };
  const tail = options.tail === undefined ? {} : { tail: parseTail(options.tail) };
  await withClient(options, async (client) => {
    const { status } = await client.call("ContainerStatus", { container_id: container });
    if (!status?.log_path) throw new Error(`container ${container} has no log`);
    const log = openLogFollower(status.log_path, { json: options.json ?? false, ...since, ...tail });
    try {
      let over = status.state === ContainerState.CONTAINER_EXITED;
      for (let polls = 1; ; polls++) {
        await log.print();
        if (over || !options.follow) return;
        await sleep(pollMs);
        // asked before the log is read for the last time: what it had written before its end is there by then
        if (polls % pollsPerState === 0) over = await hasEnded(client, container);
      }
    } finally {
      await log.close();
    }
  });
}

/** The log is followed also while no agent is there to be asked. */
async function hasEnded(client: Client, container: string): Promise<boolean> {
  try {
    const { status } = await client.call("ContainerStatus", { container_id: container });
    return status?.state === ContainerState.CONTAINER_EXITED;
  } catch (error) {
    return (error as ServiceError).code === codes.NOT_FOUND;
  }
}

const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** As times stand in the log, so that they compare as texts. */
export function parseSince(text: string, nowMs: number): string {
  const parts = /^(?:\d+(?:\.\d+)?(?:ms|[smhd]))+$/.test(text) ? text.matchAll(/([\d.]+)([a-z]+)/g) : null;
  const time = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  const ago = [...(parts ?? [])].reduce((sum, [, count, unit = ""]) => sum + Number(count) * (unitMs[unit] ?? 0), 0);
  const ms = parts === null ? time : Math.max(nowMs - ago, 0);
  if (Number.isNaN(ms)) throw new UsageError(`--since ${text} is neither a duration such as 1h30m nor a time`);
  return `${new Date(ms).toISOString().slice(0, -1)}000000Z`;
}

function parseTail(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--tail ${text} is no number of lines`);
  return Number(text);
}
