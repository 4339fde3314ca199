import type { Command } from "commander";
import Long from "long";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { askAbout, type ImageInfo } from "./image-inspect.js";
import { ago, megabytes, printJson, printTable } from "./output.js";

interface HistoryOptions extends ClientOptions {
  trunc: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("history <IMAGE>")
    .description("tell the steps that an image was made in, the last one first, and what each has added")
    .option("--no-trunc", "do not shorten commands");
  addClientOptions(command).action(history);
}

async function history(name: string, options: HistoryOptions): Promise<void> {
  await withClient(options, async (client) => {
    const steps = stepsOf((await askAbout(client, name)).info);
    if (options.json) return printJson(steps);
    const rows = steps.map(({ created, created_by, bytes, comment }) => {
      const command = created_by.replace(/\s+/g, " ");
      const shown = options.trunc && command.length > 60 ? `${command.slice(0, 57)}...` : command;
      return [agoOf(created), shown, bytes === 0 ? "0 B" : megabytes(Long.fromNumber(bytes)), comment];
    });
    printTable(["CREATED", "CREATED BY", "SIZE", "COMMENT"], rows);
  });
}

export interface Step {
  /** RFC 3339, or empty */
  created: string;
  created_by: string;
  comment: string;
  /** of the layer on the disk; 0 when the step made none */
  bytes: number;
}

/** The last step first. What the history does not tell of the layers is told without words. */
export function stepsOf({ imageSpec, layers }: Pick<ImageInfo, "imageSpec" | "layers">): Step[] {
  const entries = imageSpec.history ?? [];
  const steps: Step[] = [];
  let next = 0;
  for (const { created, created_by, comment, empty_layer } of entries) {
    const bytes = empty_layer ? 0 : (layers[next++]?.bytes ?? 0);
    steps.push({ created: created ?? "", created_by: created_by ?? "", comment: comment ?? "", bytes });
  }
  for (const { bytes } of layers.slice(next)) steps.push({ created: "", created_by: "", comment: "", bytes });
  return steps.reverse();
}

function agoOf(created: string): string {
  const time = Date.parse(created);
  return Number.isNaN(time) ? "" : ago(Long.fromNumber(time * 1e6));
}
