/** Which test files run inside the machine. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** Folders of test files, in the order in which they run; the guest's own checks come first. */
const folders = [
  { path: "test/vm/guest", suffix: "-checks" },
  { path: "test/integration", suffix: ".test" },
];

/** Absolute paths of the compiled test files whose path contains one of the filters (all, when there is none). */
export async function findTests(repository: string, filters: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const { path, suffix } of folders) {
    const sources = await readdir(join(repository, path)).catch(() => [] as string[]);
    for (const source of sources.filter((name) => name.endsWith(`${suffix}.ts`)).sort()) {
      const compiled = join(repository, "dist", path, source.replace(/\.ts$/, ".js"));
      if (!existsSync(compiled)) throw new Error(`${path}/${source} is not compiled; run \`npm run build\``);
      found.push(compiled);
    }
  }
  return filters.length === 0 ? found : found.filter((path) => filters.some((filter) => path.includes(filter)));
}
