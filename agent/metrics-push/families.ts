/** Prometheus' text format (0.0.4, "Exposition formats"), read: what the agent itself writes on /metrics. */

export type Labels = readonly (readonly [name: string, value: string])[];

export interface Sample {
  /** the family's, or with _bucket, _sum or _count behind */
  name: string;
  labels: Labels;
  value: number;
}

export interface Family {
  name: string;
  help: string;
  /** "untyped" where it says none */
  type: string;
  samples: Sample[];
}

/** @throws a sentence with the line that is not of the format */
export function readFamilies(text: string): Family[] {
  const families = new Map<string, Family>();
  let latest: Family | undefined;
  const familyOf = (name: string): Family => {
    if (latest !== undefined && belongs(name, latest)) return latest;
    const family = families.get(name) ?? { name, help: "", type: "untyped", samples: [] };
    families.set(name, family);
    latest = family;
    return family;
  };
  for (const line of lines(text)) {
    if (line === "") continue;
    if (line.startsWith("#")) {
      const [, word, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? [];
      if (word === "HELP") familyOf(name).help = rest;
      else if (word === "TYPE") familyOf(name).type = rest;
      continue;
    }
    const sample = readSample(line);
    familyOf(sample.name).samples.push(sample);
  }
  return [...families.values()];
}

/** One by one: half a thousand containers' text is 13 MB. */
function* lines(text: string): Generator<string> {
  for (let at = 0, end: number; at < text.length; at = end + 1) {
    end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    yield text.slice(at, end);
  }
}

function belongs(name: string, family: Family): boolean {
  if (name === family.name) return true;
  if (family.type !== "histogram" && family.type !== "summary") return false;
  return name.startsWith(family.name) && /^_(bucket|sum|count)$/.test(name.slice(family.name.length));
}

const escapes: Readonly<Record<string, string>> = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };

function readSample(line: string): Sample {
  const name = /^[a-zA-Z_:][\w:]*/.exec(line)?.[0] ?? "";
  const labels: [string, string][] = [];
  let at = name.length;
  if (line[at] === "{") {
    const label = /[{,]([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/y;
    label.lastIndex = at;
    for (let found = label.exec(line); found !== null; found = label.exec(line)) {
      const [whole, key = "", value = ""] = found;
      labels.push([key, value.replaceAll(/\\[\\"n]/g, (text) => escapes[text] ?? text)]);
      at += whole.length;
      label.lastIndex = at;
    }
    if (line[at] !== "}") at = Number.NaN;
    at += 1;
  }
  const [number = ""] = line.slice(at).trim().split(" ");
  const value = readNumber(number);
  if (name === "" || Number.isNaN(at) || (Number.isNaN(value) && number !== "NaN")) {
    throw new Error(`this is no line of Prometheus' text format: ${line.slice(0, 200)}`);
  }
  return { name, labels, value };
}

function readNumber(text: string): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY;
  if (text === "-Inf") return Number.NEGATIVE_INFINITY;
  return text === "" ? Number.NaN : Number(text);
}
