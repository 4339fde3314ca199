import { once } from "node:events";
import type { Command } from "commander";
import { berth } from "../../cri-proto/generated/admin.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printJson } from "./output.js";

const { ChangeKind } = berth.v1;

export function addTo(parent: Command): void {
  const command = parent
    .command("diff <CONTAINER>")
    .description("tell what a container has added (A), changed (C) and deleted (D) in the files of its image");
  addClientOptions(command).action(diff);
}

const letters = {
  [ChangeKind.CHANGE_ADDED]: "A",
  [ChangeKind.CHANGE_CHANGED]: "C",
  [ChangeKind.CHANGE_DELETED]: "D",
};

async function diff(container: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const all: { kind: string; path: string }[] = [];
    for await (const { changes } of client.stream("DiffContainer", { container_id: container })) {
      const lines: Uint8Array[] = [];
      for (const { kind, path } of changes) {
        const letter = letters[kind ?? ChangeKind.CHANGE_ADDED];
        if (options.json) all.push({ kind: letter, path: `/${Buffer.from(path ?? []).toString("utf8")}` });
        else lines.push(Buffer.from(`${letter} /`), path ?? new Uint8Array(), Buffer.from("\n"));
      }
      if (lines.length > 0 && !process.stdout.write(Buffer.concat(lines))) await once(process.stdout, "drain");
    }
    if (options.json) printJson(all);
  });
}
