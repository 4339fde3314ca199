// Makes the static protobuf code of each .proto beside this file: generated/NAME.js and generated/NAME.d.ts. A file that
// is newer than its .proto (and than this script) is kept. With --install the products go to dist/ as well: tsc takes
// their types from here, but copies no JavaScript.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const generated = join(here, "generated");
const protos = ["runtime", "monitor", "admin"];
const require = createRequire(import.meta.url);
const pbjs = join(dirname(require.resolve("protobufjs-cli/package.json")), "bin", "pbjs");

// Names stay as they are on the wire; 64-bit numbers are always Long. Services are called through agent/call-table.ts,
// which needs none of pbjs' own service classes; verify, delimited and typeurl functions have no caller.
const flags = ["-t", "static-module", "-w", "esm", "--keep-case", "--force-long"];
const without = ["--no-service", "--no-verify", "--no-delimited", "--no-typeurl"];

function run(name, output, more) {
  execFileSync(process.execPath, [
    pbjs,
    ...flags,
    ...without,
    ...more,
    "-r",
    `berth_${name}`,
    "-o",
    output,
    join(here, `${name}.proto`),
  ]);
}

function isFresh(name) {
  const products = [join(generated, `${name}.js`), join(generated, `${name}.d.ts`)];
  if (!products.every((path) => existsSync(path))) return false;
  const newest = Math.max(
    statSync(join(here, `${name}.proto`)).mtimeMs,
    statSync(fileURLToPath(import.meta.url)).mtimeMs,
  );
  return products.every((path) => statSync(path).mtimeMs > newest);
}

function generate(name) {
  const scratch = join(generated, `.${name}-${process.pid}`);
  mkdirSync(scratch, { recursive: true });
  try {
    // the declarations are made from the comments, which the code that runs need not carry
    run(name, join(scratch, "typed.js"), ["--dts"]);
    run(name, join(scratch, "code.js"), ["--no-comments", "--no-beautify"]);
    const declarations = readFileSync(join(scratch, "typed.d.ts"), "utf8").replace(
      'import Long = require("long");',
      'import Long from "long";',
    );
    writeFileSync(join(scratch, "typed.d.ts"), declarations);
    // two thirds of the code are indentation, which every start would read
    const code = readFileSync(join(scratch, "code.js"), "utf8").replace(/^ +/gm, "");
    writeFileSync(join(scratch, "code.js"), code);
    renameSync(join(scratch, "code.js"), join(generated, `${name}.js`));
    renameSync(join(scratch, "typed.d.ts"), join(generated, `${name}.d.ts`));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

for (const name of protos) if (!isFresh(name)) generate(name);

if (process.argv.includes("--install")) {
  const installed = join(here, "..", "dist", "cri-proto", "generated");
  mkdirSync(installed, { recursive: true });
  for (const name of protos) {
    for (const product of [`${name}.js`, `${name}.d.ts`]) cpSync(join(generated, product), join(installed, product));
  }
}
