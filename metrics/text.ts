/** The text formats that Prometheus reads, written in pieces: between two of them the agent does what else there is. */
import { setImmediate } from "node:timers/promises";
import type { Family } from "./families.js";
import { type Subject, subjectLabels } from "./subjects.js";

/** How long a piece is worked on, and how much is handed on at a time. */
const sliceMs = 2;
const pieceLength = 64 * 1024;

export async function* writeFamilies(
  families: readonly Family[],
  subjects: readonly Subject[],
  openMetrics: boolean,
): AsyncGenerator<string> {
  const labels = subjects.map((subject) => labelText(subject.labels));
  let piece = "";
  let begun = performance.now();
  for (const family of families) {
    const extra = family.labels.slice(subjectLabels.length);
    let head = heading(family, openMetrics);
    for (let index = 0; index < subjects.length; index++) {
      for (const [value, ...more] of family.rows(subjects[index] as Subject)) {
        let text = labels[index] as string;
        for (let n = 0; n < extra.length; n++) text += `,${extra[n]}="${escaped(more[n] ?? "")}"`;
        piece += `${head}${family.name}{${text}} ${value}\n`;
        // a family that has no series has no heading either
        head = "";
      }
      if (piece.length < pieceLength && (index % 32 !== 31 || performance.now() - begun < sliceMs)) continue;
      if (piece !== "") yield piece;
      piece = "";
      if (performance.now() - begun >= sliceMs) {
        await setImmediate();
        begun = performance.now();
      }
    }
  }
  if (piece !== "") yield piece;
}

/** OpenMetrics' counters are called without the _total that their series have; what lacks it is none. */
function heading({ name, help, type }: Family, openMetrics: boolean): string {
  const total = name.endsWith("_total");
  const called = openMetrics && total ? name.slice(0, -"_total".length) : name;
  const known = openMetrics && type === "counter" && !total ? "unknown" : type;
  return `# HELP ${called} ${help}\n# TYPE ${called} ${known}\n`;
}

const texts = new WeakMap<readonly string[], string>();

function labelText(values: readonly string[]): string {
  const known = texts.get(values);
  if (known !== undefined) return known;
  const text = subjectLabels.map((label, index) => `${label}="${escaped(values[index] ?? "")}"`).join(",");
  texts.set(values, text);
  return text;
}

function escaped(value: string): string {
  return /["\\\n]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"') : value;
}
