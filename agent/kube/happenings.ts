/** The agent's happenings, from where they were left when it or its connection went. */
import Long from "long";
import type { berth } from "../../cri-proto/generated/admin.js";
import type { Client } from "../cli/client.js";
import { sentenceOf } from "../cli/failure.js";
import { BackOff } from "./back-off.js";
import type { Said } from "./said.js";

export interface HappeningsOptions {
  client: Pick<Client, "stream">;
  types: readonly string[];
  said: Said;
  signal: AbortSignal;
  onHappening(happening: berth.v1.Happening): void;
}

/** An agent repairs before it serves: what is a little older than this process is still news. */
const recentMs = 30_000;

/** Until the signal. */
export async function followHappenings({ client, types, said, signal, onHappening }: HappeningsOptions): Promise<void> {
  const backOff = new BackOff(500, 10_000);
  let after = Long.fromNumber((Date.now() - recentMs) * 1e6);
  const aborted = new Promise<undefined>((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
  while (!signal.aborted) {
    try {
      const stream = client.stream("WatchHappenings", { after, types: [...types] })[Symbol.asyncIterator]();
      for (;;) {
        const next = await Promise.race([stream.next(), aborted]);
        if (next === undefined || next.done) break;
        const happening = next.value as berth.v1.Happening;
        after = happening.at;
        backOff.reset();
        said.over("agent", "the agent's happenings are followed again");
        onHappening(happening);
      }
    } catch (error) {
      if (!signal.aborted) said.trouble("agent", `the agent's happenings cannot be followed: ${sentenceOf(error)}`);
    }
    await backOff.pause(signal);
  }
}
