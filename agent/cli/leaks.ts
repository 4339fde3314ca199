import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { jsonOptions, printJson, printTable } from "./output.js";

interface Options extends ClientOptions {
  repair?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("leaks")
    .description(
      "tell what of pods and containers is on this machine and belongs to none: processes, namespaces, interfaces, " +
        "addresses, cgroups, mounts, directories, layers; ends with 1 when something is left",
    )
    .option("--repair", "take it away, what may be another agent's (OWNER: perhaps) too");
  addClientOptions(command).action(leaks);
}

async function leaks(options: Options): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("FindLeaks", { repair: options.repair ?? false });
    if (options.json) printJson(berth.v1.FindLeaksResponse.toObject(answer, jsonOptions));
    else print(answer);
    if (answer.leaks.some(({ repaired }) => !repaired)) process.exitCode = 1;
  });
}

function print({ leaks }: berth.v1.FindLeaksResponse): void {
  if (leaks.length === 0) {
    process.stdout.write("nothing is left over\n");
    return;
  }
  const rows = leaks.map(({ kind, subject, what, ours, repaired, why_not }) => [
    kind ?? "",
    ours ? "this agent" : "perhaps",
    subject ?? "",
    `${what}${repaired ? " (removed)" : why_not ? ` (not removed: ${why_not})` : ""}`,
  ]);
  printTable(["KIND", "OWNER", "WHERE", "WHAT"], rows);
}
