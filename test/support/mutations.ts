/** Documents that are nearly right, for fuzzers: mutations of right ones. The same random numbers give the same documents. */
import type { Random } from "../../sandbox/spec/random-messages.js";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const digest = `sha256:${"0".repeat(64)}`;
const nonsense: readonly Json[] = [
  ...[null, true, false, 0, -1, 1, 2, 0.5, 1e308, -1e-9, 2 ** 31, 2 ** 53, 2 ** 63, Number.MAX_SAFE_INTEGER],
  ...["", "0", "x", "\0", "a\nb", "\u202e", "\ud800", "../../etc/passwd", "constructor", "__proto__", "sha256:"],
  ...[digest, digest.toUpperCase(), `sha512:${"0".repeat(64)}`, `md5:${"0".repeat(32)}`, `${digest}\n`, "%2e%2e%2f"],
  ...["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", "text/html"],
  ...["linux", "LINUX", "amd64", "v9".repeat(50), "https://x/", "http://", "file:///etc/passwd", "javascript:1"],
  ...["layers", "bytes 0-1/2", "Bearer", "1s", "-1h", "NaN", "[", "{}", "x".repeat(5_000), "🙂".repeat(300)],
  ...([[], {}, [[]], [null], [[[[[[]]]]]], { "": {} }, Array(200).fill("x")] as Json[]),
];

export function oneOf<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T;
}

/** A few mutations of a text: of its structure when it is JSON, of its characters, or both. */
export function mutate(random: Random, text: string, others: readonly string[]): string {
  let mutated = text;
  const kind = random();
  if (kind < 0.75) mutated = mutateJson(random, mutated) ?? mutateText(random, mutated, others);
  if (kind > 0.65) mutated = mutateText(random, mutated, others);
  return mutated;
}

function mutateJson(random: Random, text: string): string | undefined {
  let document: Json;
  try {
    document = JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
  for (let count = 1 + Math.floor(random() ** 3 * 6); count > 0; count--) document = changeOne(random, document);
  return JSON.stringify(document, null, oneOf(random, [0, 1]));
}

/** Walks down to a random place and changes what is there. */
function changeOne(random: Random, value: Json): Json {
  if (typeof value !== "object" || value === null || random() < 0.1) return replacement(random, value);
  const entries: [string, Json][] = Object.entries(value);
  const at = Math.floor(random() * entries.length);
  const entry = entries[at];
  const kind = random();
  if (entry === undefined || kind < 0.08) entries.push([oneOf(random, nonsenseKeys), oneOf(random, nonsense)]);
  else if (kind < 0.16) entries.splice(at, 1);
  else if (kind < 0.22) for (let copies = random() < 0.1 ? 600 : 1; copies > 0; copies--) entries.push(entry);
  else if (kind < 0.28) entry[1] = (entries[Math.floor(random() * entries.length)] as [string, Json])[1];
  else if (kind < 0.32) entry[0] = oneOf(random, nonsenseKeys);
  else entry[1] = changeOne(random, entry[1]);
  if (Array.isArray(value)) return entries.map(([, item]) => item);
  return Object.fromEntries(entries);
}

const nonsenseKeys = [
  "",
  "__proto__",
  "constructor",
  "toString",
  "length",
  "size",
  "digest",
  "urls",
  "mediaType",
  "a.b",
];

function replacement(random: Random, value: Json): Json {
  if (typeof value === "number" && random() < 0.5) return value + oneOf(random, [-1, 1, 0.5, 2 ** 32, -(2 ** 40)]);
  if (typeof value === "string" && random() < 0.5) return mutateText(random, value, []);
  return oneOf(random, nonsense);
}

/** Inserts, removes, doubles or changes characters, or puts in a piece of another text. */
export function mutateText(random: Random, text: string, others: readonly string[]): string {
  let mutated = text;
  for (let count = 1 + Math.floor(random() ** 3 * 8); count > 0; count--) {
    const at = Math.floor(random() * (mutated.length + 1));
    const length = Math.floor(random() ** 4 * 200);
    const piece = mutated.slice(at, at + length);
    const put = [
      "",
      `${piece}${piece}`,
      oneOf(random, characters),
      oneOf(random, characters).repeat(length),
      JSON.stringify(oneOf(random, nonsense)),
      oneOf(random, others.length > 0 ? others : [""]).slice(at % 100, (at % 100) + length),
    ];
    mutated = `${mutated.slice(0, at)}${oneOf(random, put)}${mutated.slice(at + (random() < 0.5 ? length : 0))}`;
    if (random() < 0.02) mutated = mutated.slice(0, at);
  }
  return mutated.slice(0, 200_000);
}

const characters = [..."\"'\\{}[],:=#.\n\r\t\0 0-/@%é🙂\u2028\u202e\x7fa"];
