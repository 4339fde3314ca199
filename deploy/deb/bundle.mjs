// The agent and the command as a few files, the npm packages that they use in them: reading and compiling what is one file takes
// Node half the processor time that a thousand take, and what no one calls is left out.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { copyTree, write } from "./files.mjs";

/**
 * Every part that the program imports when it needs it stays a file by itself, in chunks/. Of npm packages that are CommonJS
 * such an import has nothing but the default there, which Node knows, too.
 */
export async function bundle(repository, to) {
  const { outputFiles } = await build({
    write: false,
    absWorkingDir: repository,
    entryPoints: [
      { in: "dist/agent/cli/main.js", out: "agent/cli/main" },
      // threads are started by a file's name, beside the one that starts them
      { in: "dist/agent/spec-hooks/worker.js", out: "chunks/worker" },
    ],
    outdir: to,
    chunkNames: "chunks/[hash]",
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    // what D-Bus' library takes where it is installed; it is not
    external: ["x11", "usocket"],
    // for packages that are CommonJS and ask for Node's own modules
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
    },
    logLevel: "warning",
  });
  for (const { path, contents } of outputFiles) write(path, contents);
}

const licence = /^(package\.json|(licen[cs]e|copying|notice|authors)[^/]*)$/i;

/** Of every npm package that runs: its name, its version, its licence. */
export function copyLicences(repository, to) {
  const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8"));
  for (const path of Object.keys(packages)) {
    const { dev, devOptional } = packages[path];
    const from = join(repository, path);
    if (path === "" || dev || devOptional || !existsSync(from)) continue;
    copyTree(from, join(to, path.slice("node_modules/".length)), (name) => licence.test(name));
  }
}
