import { type Command, InvalidArgumentError, Option } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printable, printTable } from "./output.js";
import { parseInterval, type SortKey, sorted, sortKeys, type Usage, usageHeader, usageRow, usages } from "./usage.js";

interface TopOptions extends ClientOptions {
  pods?: boolean;
  interval: number;
  sort: SortKey;
  count: number;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("top")
    .description("show all the time what containers use; on a terminal, keys choose the order and q ends it")
    .option("--pods", "pods as a whole")
    .option("--interval <seconds>", "the time between two looks", parseInterval, 2)
    .option("--count <number>", "so many looks; 0: until it is ended", parseCount, 0)
    .addOption(new Option("--sort <column>", "what the list is ordered by").choices(sortKeys).default("cpu"));
  addClientOptions(command, { json: false }).action(top);
}

function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("A whole number is wanted.");
  return Number(text);
}

const keys: Record<string, SortKey> = {
  c: "cpu",
  m: "memory",
  s: "swap",
  w: "written",
  i: "io",
  p: "pressure",
  n: "name",
};
const enterScreen = "\u001b[?1049h\u001b[?25l";
const leaveScreen = "\u001b[?25h\u001b[?1049l";

async function top(options: TopOptions): Promise<void> {
  await withClient(options, async (client) => {
    const stop = new AbortController();
    const looks = usages(client, options.interval * 1000, options.pods ?? false, stop.signal);
    // else the command would end when it would have looked again
    if (process.stdout.isTTY && process.stdin.isTTY) return show(looks, options).finally(() => stop.abort());
    let count = 0;
    for await (const usage of looks) {
      printTable(usageHeader, sorted(usage, options.sort).map(usageRow));
      count += 1;
      if (count === options.count) return;
      process.stdout.write("\n");
    }
  });
}

/** On the terminal's other screen, which is left again however this ends. */
async function show(looks: AsyncGenerator<Usage[]>, options: TopOptions): Promise<void> {
  let order = options.sort;
  let latest: readonly Usage[] = [];
  let end: () => void = () => undefined;
  const ended = new Promise<undefined>((resolve) => {
    end = () => resolve(undefined);
  });
  const draw = () => process.stdout.write(screen(latest, order));
  const onKey = (bytes: Buffer) => {
    const key = bytes.toString();
    if (key === "q" || key === "\u0003") return end();
    order = keys[key] ?? order;
    draw();
  };
  process.stdin.setRawMode(true).on("data", onKey).resume();
  process.stdout.write(enterScreen);
  process.stdout.on("resize", draw);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, end);
  try {
    draw();
    for (let count = 0; options.count === 0 || count < options.count; count++) {
      const look = await Promise.race([looks.next(), ended]);
      if (look === undefined || look.done === true) return;
      latest = look.value;
      draw();
    }
  } finally {
    process.stdout.off("resize", draw);
    process.stdin.off("data", onKey).setRawMode(false).pause();
    process.stdout.write(leaveScreen);
  }
}

function screen(usages: readonly Usage[], order: SortKey): string {
  const { rows = 24, columns = 80 } = process.stdout;
  const table = fitting([usageHeader, ...sorted(usages, order).map(usageRow)], columns);
  const head = [`berth top: ${usages.length} by ${order}`, help];
  const shown = [...head, ...table].slice(0, rows - 1).map((line) => printable(line).slice(0, columns));
  return `\u001b[H${shown.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J`;
}

const help = "c cpu  m memory  s swap  w written  i io  p pressure  n name  q quit";

/** What a narrow terminal goes without, the first first. */
const dispensable = ["ID", "WRITTEN", "SWAP", "PROCS", "IO/S", "WAITED (CPU MEM IO)", "LIMIT", "POD"];

/** The table's lines, with the columns that the terminal has room for. */
function fitting(table: readonly (readonly string[])[], columns: number): string[] {
  const widths = usageHeader.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const kept = new Set(usageHeader.keys());
  const width = () => [...kept].reduce((sum, column) => sum + (widths[column] ?? 0) + 2, -2);
  for (const name of dispensable) {
    if (width() <= columns) break;
    kept.delete(usageHeader.indexOf(name));
  }
  return table.map((row) => [...kept].map((column) => (row[column] ?? "").padEnd(widths[column] ?? 0)).join("  "));
}
