/** What fuzzers share: how long they run, which numbers they draw, the corpus that they begin with. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** BERTH_FUZZ_SECONDS=3600 runs each of them for an hour; in the suite they are short. */
export const fuzzSeconds = Number(process.env["BERTH_FUZZ_SECONDS"] ?? 3);
/** The same each time in the suite; BERTH_SEED=N draws others. */
export const fuzzSeed = Number(process.env["BERTH_SEED"] ?? 1);

const corpus = fileURLToPath(new URL("../../../test/corpus", import.meta.url));

/** The texts of a folder of test/corpus: right ones, and those that something has failed with before. */
export function readCorpus(folder: string): string[] {
  const directory = join(corpus, folder);
  return readdirSync(directory)
    .sort()
    .map((name) => readFileSync(join(directory, name), "utf8"));
}

/** Mistakes of ours that look like answers. */
export const mistake = /is not a function|cannot read prop|is not iterable|undefined|\[object |of null|stack size|NaN/i;
