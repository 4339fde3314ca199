/**
 * A fuzzer over both framings: mutated sessions go into the server's own parsers, whole and in pieces. Nothing may escape as
 * an exception, the cut may change nothing, and what comes back has to stay in proportion to what was sent.
 *
 * Quick, and always the same, in the suite; BERTH_FUZZ_SECONDS=3600 BERTH_FUZZ_SEED=$RANDOM lets each target run for so long. What it finds is written to
 * test/fuzz/corpus/TARGET-*.hex, and is tried first from then on.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { seedsOf, type TargetName, targets } from "./streaming-targets.js";

const seconds = Number(process.env["BERTH_FUZZ_SECONDS"] ?? 2);
/** of the sources: what is found is to be committed */
const corpus = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "test", "fuzz", "corpus");

/** A small generator, so that a run can be had again by its seed. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const interesting = [0, 1, 0x7f, 0x80, 0xff, 0x81, 0x82, 0x88, 0x89, 0xfe];

function mutate(input: Buffer, other: Buffer, random: (below: number) => number): Buffer {
  let bytes = Buffer.from(input);
  for (let times = 1 + random(6); times > 0 && bytes.length > 0; times--) {
    const at = random(bytes.length);
    const length = 1 + random(Math.min(64, bytes.length - at));
    switch (random(7)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 1:
        bytes[at] = interesting[random(interesting.length)] ?? 0;
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 4:
        bytes.fill(random(256), at, at + length);
        break;
      case 5:
        if (bytes.length - at >= 4) bytes.writeUInt32BE(random(0x100000000), at);
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random(other.length + 1))]);
    }
    if (bytes.length > 64 * 1024) bytes = bytes.subarray(0, 64 * 1024);
  }
  return bytes;
}

function check(name: TargetName, input: Buffer, random: (below: number) => number): void {
  const whole = targets[name]([input]);
  const pieces: Buffer[] = [];
  for (let at = 0; at < input.length; ) {
    const length = random(8) === 0 ? 1 + random(3000) : 1 + random(20);
    pieces.push(input.subarray(at, at + length));
    at += length;
  }
  assert.deepEqual(targets[name](pieces), whole, "the cut has changed what came of it");
}

function tryInput(name: TargetName, input: Buffer, random: (below: number) => number): void {
  try {
    check(name, input, random);
  } catch (error) {
    mkdirSync(corpus, { recursive: true });
    const path = join(corpus, `${name}-${randomBytes(4).toString("hex")}.hex`);
    writeFileSync(path, `${input.toString("hex")}\n`);
    throw new Error(`${path}: ${String(error)}`, { cause: error });
  }
}

for (const name of Object.keys(targets) as TargetName[]) {
  test(`${name}: what was found once, and mutations of sessions`, () => {
    const random = generator(Number(process.env["BERTH_FUZZ_SEED"] ?? 1));
    const found = existsSync(corpus) ? readdirSync(corpus).filter((file) => file.startsWith(`${name}-`)) : [];
    for (const file of found) check(name, Buffer.from(readFileSync(join(corpus, file), "utf8").trim(), "hex"), random);
    const seeds = seedsOf(name);
    for (const seed of seeds) check(name, seed, random);
    const pick = (): Buffer => seeds[random(seeds.length)] ?? Buffer.alloc(0);
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      for (let round = 0; round < 100; round++) tryInput(name, mutate(pick(), pick(), random), random);
    }
  });
}
