// The npm packages that run, without what is for building and reading alone.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { copyTree } from "./files.mjs";

/** dependencies that only the build of the addon has, types, and the compiler, which a validator would check types with */
const ofTheBuild = /(^|\/)(node-addon-api|node-api-headers|@types\/[^/]+|undici-types|typescript|@typescript\/[^/]+)$/;
const notRun = /\.(ts|mts|cts|map|md|markdown|proto|flow|yml|yaml|tsbuildinfo)$|(^|\/)\.[^/]+(\/|$)/;
const notRunDirectories = /(^|\/)(test|tests|__tests__|docs|example|examples|bench|benchmark|benchmarks)\//;

export function copyModules(repository, to) {
  const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8"));
  for (const path of Object.keys(packages)) {
    const { dev, devOptional, optional } = packages[path];
    if (path === "" || dev || devOptional || ofTheBuild.test(path)) continue;
    const from = join(repository, path);
    if (!existsSync(from)) {
      if (optional) continue;
      throw new Error(`${from} is missing: run npm ci first`);
    }
    const wanted = (name) => !name.startsWith("node_modules/") && !notRun.test(name) && !notRunDirectories.test(name);
    copyTree(from, join(to, path.slice("node_modules/".length)), wanted);
  }
}
