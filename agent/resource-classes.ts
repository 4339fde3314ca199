/** The configuration's classes: [[blockio.NAME]] and [rdt.NAME] in config.toml. */
import { isAbsolute } from "node:path";
import * as v from "valibot";
import type { BlockioRule } from "../sandbox/classes/blockio.js";
import { isRdtClassName, type RdtClass } from "../sandbox/classes/rdt.js";
import { InvalidArgumentError } from "../sandbox/errors.js";

const factors: Record<string, number> = {
  "": 1,
  ...{ k: 1e3, M: 1e6, G: 1e9, T: 1e12 },
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 },
};

/** A whole number, or one with a factor: 1000, "60M", "1Gi". */
const rate = v.pipe(
  v.union([v.number(), v.string()], "is no rate"),
  v.check((value) => Number.isSafeInteger(toRate(value)) && toRate(value) > 0, 'is no rate, as 1000, "60M" or "1Gi"'),
  v.transform(toRate),
);

function toRate(value: string | number): number {
  const [, number, factor] = /^([0-9]{1,15})(|k|[MGT]i?|Ki)$/.exec(String(value)) ?? [];
  return Number(number) * (factors[factor ?? ""] ?? Number.NaN);
}

const blockioRule = v.pipe(
  v.strictObject({
    devices: v.optional(
      v.array(
        v.pipe(
          v.string("is not a text"),
          v.check((path) => isAbsolute(path) && !path.includes("\0"), "is not an absolute path"),
        ),
        "is not a list of paths",
      ),
      [],
    ),
    // what the kernel's scheduler takes
    weight: v.optional(
      v.pipe(
        v.number("is no weight"),
        v.integer("is no weight"),
        v.minValue(10, "is less than 10"),
        v.maxValue(1000, "is more than 1000"),
      ),
    ),
    "throttle-read-bps": v.optional(rate),
    "throttle-write-bps": v.optional(rate),
    "throttle-read-iops": v.optional(rate),
    "throttle-write-iops": v.optional(rate),
  }),
  v.transform(
    (rule): BlockioRule => ({
      devices: rule.devices,
      weight: rule.weight,
      readBytes: rule["throttle-read-bps"],
      writeBytes: rule["throttle-write-bps"],
      readOperations: rule["throttle-read-iops"],
      writeOperations: rule["throttle-write-iops"],
    }),
  ),
  v.check(
    ({ devices, ...rule }) =>
      devices.length > 0 || Object.entries(rule).every(([name, value]) => name === "weight" || value === undefined),
    "has a throttle without devices",
  ),
);

const rdtClass = v.strictObject({
  schemata: v.optional(
    v.array(
      v.pipe(
        v.string("is not a text"),
        v.regex(/^[A-Z0-9]+:[0-9]+=[0-9a-f]+(;[0-9]+=[0-9a-f]+)*$/, 'is no line as "L3:0=ff;1=ff"'),
      ),
      "is not a list of lines",
    ),
    [],
  ),
});

/** The table \`blockio\`; null: there is none. InvalidArgumentError names the setting. */
export function parseBlockio(table: unknown, place: string): ReadonlyMap<string, readonly BlockioRule[]> | null {
  return parseClasses(table, place, "[[blockio.NAME]]", (rules, at) =>
    (Array.isArray(rules) ? rules : [rules]).map((rule, index) =>
      parse(blockioRule, rule, Array.isArray(rules) ? `${at}[${index}]` : at),
    ),
  );
}

/** The table \`rdt\`; null: there is none. InvalidArgumentError names the setting. */
export function parseRdt(table: unknown, place: string): ReadonlyMap<string, RdtClass> | null {
  return parseClasses(table, place, "[rdt.NAME]", (settings, at, name) => {
    if (!isRdtClassName(name)) throw new InvalidArgumentError(`${at}: ${JSON.stringify(name)} cannot be a class' name`);
    return parse(rdtClass, settings, at);
  });
}

function parseClasses<Class>(
  table: unknown,
  place: string,
  form: string,
  parseOne: (settings: unknown, at: string, name: string) => Class,
): ReadonlyMap<string, Class> | null {
  if (table === undefined) return null;
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw new InvalidArgumentError(`${place} is not a table of classes, as ${form}`);
  }
  const entries = Object.entries(table).map(
    ([name, settings]: [string, unknown]) => [name, parseOne(settings, `${place}.${name}`, name)] as const,
  );
  return new Map(entries);
}

function parse<Output>(schema: v.GenericSchema<unknown, Output>, settings: unknown, at: string): Output {
  const result = v.safeParse(schema, settings);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = issue.path?.map((part) => String(part.key)).join(".") ?? "";
  if (key === "")
    throw new InvalidArgumentError(`${at} ${typeof settings === "object" ? issue.message : "is no table"}`);
  if (issue.expected === "never") throw new InvalidArgumentError(`${at}: there is no setting "${key}"`);
  throw new InvalidArgumentError(`${at}.${key} ${JSON.stringify(issue.input)} ${issue.message}`);
}
