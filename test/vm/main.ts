/**
 * The virtual-machine lane, in the order in which it happens: a kernel from Debian, a disk image with the built
 * repository, a small initramfs, machines that take test file after test file, and their results.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, freemem, tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { buildImage } from "./image.js";
import { buildInitramfs } from "./initramfs.js";
import { findKernel } from "./kernel.js";
import { type MachineEnd, runMachine } from "./machine.js";
import { guestRepository, payloadOf } from "./payload.js";
import { createReport } from "./report.js";
import { findTests } from "./tests.js";

const repository = fileURLToPath(new URL("../../../", import.meta.url));
const cache = join(repository, "build", "vm");

/** How long a whole run may take, the boot included; on a quiet host it takes a quarter of that. */
const defaultTimeoutMs = 40 * 60_000;
/** A machine keeps one of the host's cores busy; more than two would be more boots than tests. */
const mostMachines = 2;
const machineBytes = 3 * 2 ** 30;

/** Runs the lane and returns the process's exit code: 0 when no test failed and each guest ended by itself. */
export async function main(filters: readonly string[]): Promise<number> {
  const started = performance.now();
  const tests = await findTests(repository, filters);
  if (tests.length === 0) {
    console.error(`test:vm: no test file matches ${filters.join(" ")}`);
    return 1;
  }
  const kernel = await findKernel(join(cache, "kernel"));
  const image = await buildImage(join(cache, "root.ext4"), await payloadOf(repository, kernel));
  const scratch = await mkdtemp(join(tmpdir(), "berth-vm-"));
  const initramfs = join(scratch, "initramfs");
  await buildInitramfs(initramfs, kernel);
  const machines = Array.from({ length: machineCount(tests.length) }, (_, index) => join(scratch, `console-${index}`));
  console.log(`kernel ${kernel.release}, ${tests.length} test files, image ${image.built ? "built" : "unchanged"}`);
  console.log(`consoles: ${machines.join(" ")}`);

  const report = createReport(guestRepository, (text) => console.log(text));
  const queue = tests.map((test) => join(guestRepository, relative(repository, test)));
  const signal = abortOnSignals();
  const endings = await Promise.all(
    machines.map((consolePath) =>
      runMachine({
        kernel: kernel.image,
        initramfs,
        disk: image.path,
        consolePath,
        timeoutMs: timeoutMs(),
        signal,
        nextTest: () => queue.shift(),
        onRecord: report.add,
      }),
    ),
  );
  const ok = report.finish(endings, performance.now() - started);
  if (ok) await rm(scratch, { recursive: true });
  else await showConsoles(endings, machines);
  return ok ? 0 : 1;
}

function machineCount(tests: number): number {
  return Math.max(1, Math.min(mostMachines, tests, availableParallelism(), Math.floor(freemem() / machineBytes)));
}

function timeoutMs(): number {
  const seconds = process.env["BERTH_VM_TIMEOUT_S"];
  return seconds === undefined ? defaultTimeoutMs : Number(seconds) * 1000;
}

function abortOnSignals(): AbortSignal {
  const abort = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => abort.abort());
  return abort.signal;
}

async function showConsoles(endings: readonly MachineEnd[], paths: readonly string[]): Promise<void> {
  for (const [index, ending] of endings.entries()) {
    if (ending.ended) continue;
    const text = await readFile(paths[index] ?? "", "latin1").catch(() => "");
    console.log(`last lines of ${paths[index]}:\n${text.split("\n").slice(-40).join("\n")}`);
  }
}
