// npm run test:vm [-- FILTER...]: runs Berth's tests inside a virtual machine with Debian's own kernel and cgroup v2.
// A FILTER keeps only the test files whose path contains it.
import { existsSync } from "node:fs";

const built = new URL("../../dist/test/vm/main.js", import.meta.url);
if (!existsSync(built)) {
  console.error("test:vm: dist/test/vm/main.js is missing; run `npm run build` first");
  process.exit(1);
}
const { main } = await import(built.href);
process.exitCode = await main(process.argv.slice(2));
