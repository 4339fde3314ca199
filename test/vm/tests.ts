/** Which test files run inside the machine. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { SecurityModule } from "./machine.js";

/** Folders of test files; the guest's own checks come before the runtime's tests. */
const folders = [
  { path: "test/vm/guest", suffix: "-checks" },
  { path: "test/integration", suffix: ".test" },
  { path: "test/faults", suffix: ".test" },
  { path: "test/security", suffix: ".test" },
];

/** Files that take minutes: they go first, so that the others fill the second machine meanwhile. */
const slow = ["recovery.test"];

/** Of a test file: the module that its machine's kernel is started with. Debian's own choice is AppArmor. */
export function securityModuleOf(path: string): SecurityModule {
  return /\/selinux[^/]*$/.test(path) ? "selinux" : "apparmor";
}

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
  const isSlow = (path: string): boolean => slow.some((name) => path.includes(name));
  return found
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)));
}
