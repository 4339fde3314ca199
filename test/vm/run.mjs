// npm run test:vm [-- FILTER...]: runs Berth's tests inside virtual machines with Debian's own kernels and cgroup v2.
// A FILTER keeps only the test files whose path contains it.
// With --reduced it runs what .ci/run has time for, and where qemu or a kernel cannot be installed it says so and ends well.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const filters = process.argv.slice(2);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

function prepare() {
  const purpose = filters.includes("--reduced") ? "vm-reduced" : "vm";
  const { status, stderr } = spawnSync(process.execPath, [here("../support/prepare.mjs"), purpose], {
    stdio: ["ignore", "inherit", "pipe"],
    encoding: "utf8",
  });
  process.stderr.write(stderr);
  return { status, reason: stderr.trim().split("\n")[0] };
}

async function run() {
  const { status, reason } = prepare();
  if (status === 3 && filters.includes("--reduced")) {
    console.log(`skipped:\n  the virtual machine: ${reason}`);
    return 0;
  }
  if (status !== 0) return 1;
  if (!existsSync(here("../../dist/test/vm/main.js"))) {
    console.error("test:vm: dist/test/vm/main.js is missing; run `npm run build` first");
    return 1;
  }
  const { main } = await import("../../dist/test/vm/main.js");
  return main(filters);
}

process.exitCode = await run();
