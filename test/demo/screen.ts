/** What the demo prints: screens of plain words, aligned values with where each was read, crictl lines, and checks. */

/** what it is, the value, and the command or kernel file that it was read from */
export type Value = [what: string, value: string, source?: string];

export interface Screen {
  /** the heading of a new screen, and what it is about, in short sentences */
  title(name: string, ...words: string[]): void;
  /** a paragraph */
  say(words: string): void;
  values(rows: Value[]): void;
  /** @param source where the cells were read */
  table(header: string[], rows: string[][], source: string): void;
  /** lines as they are: a plot, a file */
  lines(lines: string[]): void;
  /** what is in a file that a crictl line names */
  file(name: string, content: string): void;
  /** what one would type for the call that was just made, and what the call answered */
  crictl(line: string, output?: string): void;
  /** ✔ or ✘; one ✘ makes the demo fail */
  check(what: string, condition: boolean): void;
  /** how often check() was called, and how often in vain */
  counts(): { checks: number; failures: number };
}

export interface ScreenOptions {
  write(text: string): void;
  colour: boolean;
  /** how many screens there will be */
  screens: number;
}

const width = 100;
const styles = { bold: 1, dim: 2, red: 31, green: 32, cyan: 36 } as const;

export function createScreen({ write, colour, screens }: ScreenOptions): Screen {
  const counts = { titles: 0, checks: 0, failures: 0 };
  const style = (name: keyof typeof styles, text: string): string =>
    colour && text !== "" ? `\x1b[${styles[name]}m${text}\x1b[0m` : text;
  const print = (...lines: string[]): void => write(lines.map((line) => `${line}\n`).join(""));
  return {
    title(name, ...words) {
      const heading = `${++counts.titles}/${screens}  ${name} `;
      print("", style("bold", heading + "━".repeat(width - heading.length)));
      for (const paragraph of words) print(...wrap(paragraph, width));
    },
    say: (words) => print("", ...wrap(words, width)),
    values(rows) {
      const [whats, values] = [widest(rows.map(([what]) => what)), widest(rows.map(([, value]) => value))];
      const fits = rows.every(([, , source = ""]) => whats + values + source.length + 8 <= width);
      for (const [what, value, source = ""] of rows) {
        const from = source === "" ? "" : style("dim", `← ${source}`);
        if (fits) print(`  ${what.padEnd(whats)}  ${value.padEnd(values)}  ${from}`.trimEnd());
        else print(`  ${what.padEnd(whats)}  ${value}`, ...(from === "" ? [] : [`    ${from}`]));
      }
    },
    table(header, rows, source) {
      const widths = header.map((cell, column) => widest([cell, ...rows.map((row) => row[column] ?? "")]));
      const line = (cells: string[]): string =>
        `  ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")}`.trimEnd();
      print(style("bold", line(header)), ...rows.map(line), style("dim", `  ← ${source}`));
    },
    lines: (lines) => print(...lines.map((line) => `  ${line}`)),
    file: (name, content) => print(...wrap(`${name}: ${content}`, width - 2).map((line) => style("dim", `  ${line}`))),
    crictl(line, output = "") {
      print(`  ${style("cyan", `$ crictl ${line}`)}`);
      if (output !== "") print(...output.split("\n").map((text) => `    ${text}`.trimEnd()));
    },
    check(what, condition) {
      counts.checks++;
      if (!condition) counts.failures++;
      print(`  ${condition ? style("green", "✔") : style("red", "✘")} ${what}`);
    },
    counts: () => ({ checks: counts.checks, failures: counts.failures }),
  };
}

/** Colours are for people at a terminal who have not refused them (no-color.org). */
export function wantsColour(stream: { isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
}

/** An argument vector as a shell takes it. */
export function quoted(args: readonly string[]): string {
  return args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)).join(" ");
}

export function mebibytes(bytes: number, digits = 1): string {
  return `${(bytes / (1024 * 1024)).toFixed(digits)} MiB`;
}

export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

function widest(cells: string[]): number {
  return Math.max(...cells.map((cell) => cell.length));
}
