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
import { findTests, securityModuleOf } from "./tests.js";

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
  console.log(`kernel ${kernel.release}, ${tests.length} test files, image ${image.built ? "built" : "unchanged"}`);

  const report = createReport(guestRepository, (text) => console.log(text));
  const signal = abortOnSignals();
  const endings: MachineEnd[] = [];
  const consoles: string[] = [];
  for (const securityModule of ["apparmor", "selinux"] as const) {
    const chosen = tests.filter((test) => securityModuleOf(test) === securityModule);
    const queue = chosen.map((test) => join(guestRepository, relative(repository, test)));
    const machines = machineNames(securityModule, chosen.length).map((name) => join(scratch, `console-${name}`));
    if (machines.length > 0) console.log(`consoles: ${machines.join(" ")}`);
    consoles.push(...machines);
    const ended = machines.map((consolePath) =>
      runMachine({
        kernel: kernel.image,
        initramfs,
        disk: image.path,
        consolePath,
        securityModule,
        timeoutMs: timeoutMs(),
        signal,
        nextTest: () => queue.shift(),
        onRecord: report.add,
      }),
    );
    endings.push(...(await Promise.all(ended)));
  }
  const ok = report.finish(endings, performance.now() - started);
  if (ok) await rm(scratch, { recursive: true });
  else await showConsoles(endings, consoles);
  return ok ? 0 : 1;
}

function machineNames(securityModule: string, tests: number): string[] {
  const count = Math.min(
    mostMachines,
    tests,
    availableParallelism(),
    Math.max(1, Math.floor(freemem() / machineBytes)),
  );
  return Array.from({ length: count }, (_, index) => `${securityModule}-${index}`);
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
