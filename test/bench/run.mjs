// npm run bench: what is measured is what is installed, so the program is bundled first.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleProgram } from "../support/bundle-program.mjs";

const repository = join(dirname(fileURLToPath(import.meta.url)), "../..");
await bundleProgram(repository);
await import(join(repository, "dist/test/bench/main.js"));
