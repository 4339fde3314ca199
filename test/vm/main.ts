/**
 * The virtual-machine lane, in the order in which it happens: a kernel from Debian, a disk image with the built
 * repository, a small initramfs, machines that take test file after test file, and their results.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, freemem, tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestRecord } from "./guest/records.js";
import { buildImage } from "./image.js";
import { buildInitramfs } from "./initramfs.js";
import { findKernels, type Kernel } from "./kernel.js";
import { type MachineEnd, runMachine } from "./machine.js";
import { guestRepository, payloadOf } from "./payload.js";
import { createReport } from "./report.js";
import { findTests, type Lane, laneOf, lanes, reduced } from "./tests.js";

const repository = fileURLToPath(new URL("../../../", import.meta.url));
const cache = join(repository, "build", "vm");

/** How long a whole run may take, the boot included; on a quiet host it takes a quarter of that. */
const defaultTimeoutMs = 40 * 60_000;
/** A machine keeps one of the host's cores busy; more than two would be more boots than tests. */
const mostMachines = 2;
const machineBytes = 3 * 2 ** 30;

/**
 * Runs the test files whose path contains one of the filters (all, when there is none; with "--reduced" those that .ci/run has
 * time for) and returns the process's exit code: 0 when no test failed and each guest ended by itself.
 */
export async function main(arguments_: readonly string[]): Promise<number> {
  const started = performance.now();
  const filters = arguments_.flatMap((argument) => (argument === "--reduced" ? reduced : [argument]));
  const tests = await findTests(repository, filters);
  if (tests.length === 0) {
    console.error(`test:vm: no test file matches ${filters.join(" ")}`);
    return 1;
  }
  const kernels = await findKernels(cache);
  const image = await buildImage(join(cache, "root.ext4"), await payloadOf(repository, Object.values(kernels)));
  const scratch = await mkdtemp(join(tmpdir(), "berth-vm-"));
  console.log(`${tests.length} test files, image ${image.built ? "built" : "unchanged"}`);

  const report = createReport(guestRepository, (text) => console.log(text));
  const signal = abortOnSignals();
  const endings: MachineEnd[] = [];
  const consoles: string[] = [];
  for (const lane of lanes) {
    const queue = tests
      .filter((test) => laneOf(test) === lane)
      .map((test) => join(guestRepository, relative(repository, test)));
    const kernel = kernels[lane.kernel];
    if (kernel === undefined) {
      for (const file of queue) report.add(withoutKernel(file, lane));
      continue;
    }
    const initramfs = join(scratch, `initramfs-${kernel.release}`);
    await buildInitramfs(initramfs, kernel);
    const machines = machineNames(lane, queue.length).map((name) => join(scratch, `console-${name}`));
    if (machines.length > 0) console.log(`${nameOf(lane, kernel)}: consoles ${machines.join(" ")}`);
    consoles.push(...machines);
    const laneStarted = performance.now();
    const ended = machines.map((consolePath) =>
      runMachine({
        kernel: kernel.image,
        initramfs,
        disk: image.path,
        consolePath,
        securityModule: lane.securityModule,
        timeoutMs: timeoutMs(),
        signal,
        nextTest: () => queue.shift(),
        onRecord: report.add,
        onFileEnd: (file, ms) => console.log(`        ${relative(guestRepository, file)} took ${seconds(ms)}`),
      }),
    );
    endings.push(...(await Promise.all(ended)));
    if (machines.length > 0) console.log(`${nameOf(lane, kernel)}: ${seconds(performance.now() - laneStarted)}`);
  }
  const ok = report.finish(endings, performance.now() - started);
  if (ok) await rm(scratch, { recursive: true });
  else await showConsoles(endings, consoles);
  return ok ? 0 : 1;
}

function nameOf({ securityModule }: Lane, { release }: Kernel): string {
  return `machines with Linux ${release} and ${securityModule}`;
}

/** Of the host's time, not the guest's. */
function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function withoutKernel(file: string, { kernel }: Lane): TestRecord {
  const reason = `the kernel of ${kernel === "backports" ? "Debian's backports" : "Debian"} could not be fetched`;
  return { type: "test", file, name: [], result: "skipped", durationMs: 0, reason };
}

function machineNames({ kernel, securityModule }: Lane, tests: number): string[] {
  const count = Math.min(
    mostMachines,
    tests,
    availableParallelism(),
    Math.max(1, Math.floor(freemem() / machineBytes)),
  );
  return Array.from({ length: count }, (_, index) => `${kernel}-${securityModule}-${index}`);
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
