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
import { guestRepository, type Payload, payloadOf } from "./payload.js";
import { createReport } from "./report.js";
import { findTests, isOf, type Lane, lanes, reduced, reducedLanes } from "./tests.js";

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
  const image = await buildImage(join(cache, "root.ext4"), await payload(tests, Object.values(kernels)));
  const scratch = await mkdtemp(join(tmpdir(), "berth-vm-"));
  console.log(`${tests.length} test files, image ${image.built ? "built" : "unchanged"}`);

  const report = createReport(guestRepository, (text) => console.log(text));
  const signal = abortOnSignals();
  const endings: MachineEnd[] = [];
  const consoles: string[] = [];
  const used = arguments_.includes("--reduced") ? reducedLanes : lanes;
  const queues = new Map(
    used.map((lane) => {
      const files = tests.filter((test) => isOf(lane, test));
      return [lane, files.map((test) => join(guestRepository, relative(repository, test)))];
    }),
  );
  const boot = async ({ lane, name }: Place): Promise<void> => {
    const queue = queues.get(lane) ?? [];
    const kernel = kernels[lane.kernel];
    if (kernel === undefined) for (const file of queue.splice(0)) report.add(withoutKernel(file, lane));
    if (kernel === undefined || queue.length === 0 || signal.aborted) return;
    // so that no second machine is booted for a single file
    const reserved = queue.splice(0, 1);
    const machine = `machine ${name}, Linux ${kernel.release}`;
    const consolePath = join(scratch, `console-${name}`);
    const initramfs = join(scratch, `initramfs-${name}`);
    await buildInitramfs(initramfs, kernel);
    console.log(`${machine}: console ${consolePath}`);
    const bootedAt = performance.now();
    const ending = await runMachine({
      kernel: kernel.image,
      initramfs,
      disk: image.path,
      consolePath,
      securityModule: lane.securityModule,
      init: lane.init,
      cgroups: lane.cgroups,
      timeoutMs: timeoutMs(),
      signal,
      nextTest: () => reserved.shift() ?? queue.shift(),
      onRecord: report.add,
      onFileEnd: (file, { wallMs, cpuMs }) =>
        console.log(`        ${relative(guestRepository, file)} took ${seconds(wallMs)}, ${seconds(cpuMs)} of a core`),
    });
    endings.push(ending);
    consoles.push(consolePath);
    console.log(`${machine}: ${seconds(performance.now() - bootedAt)}`);
  };
  const places = placesFor(used);
  const work = async (): Promise<void> => {
    for (let place = places.shift(); place !== undefined; place = places.shift()) await boot(place);
  };
  await Promise.all(Array.from({ length: machinesAtOnce() }, work));
  const ok = report.finish(endings, performance.now() - started);
  if (ok) await rm(scratch, { recursive: true });
  else await showConsoles(endings, consoles);
  return ok ? 0 : 1;
}

function payload(tests: readonly string[], kernels: readonly Kernel[]): Promise<Payload> {
  const withPackage = tests.some((path) => path.includes("systemd-package"));
  return payloadOf(repository, kernels, { withPackage });
}

/** A machine that may be booted, unless its lane has nothing left to do by then. */
interface Place {
  lane: Lane;
  name: string;
}

/** One machine of each lane first; then more of those that are not through. */
function placesFor(all: readonly Lane[]): Place[] {
  return Array.from({ length: mostMachines }, (_, index) =>
    all.map((lane) => ({ lane, name: [lane.kernel, lane.securityModule, lane.init, lane.cgroups, index].join("-") })),
  ).flat();
}

/** Of the host's time, not the guest's. */
function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function withoutKernel(file: string, { kernel }: Lane): TestRecord {
  const reason = `the kernel of ${kernel === "backports" ? "Debian's backports" : "Debian"} could not be fetched`;
  return { type: "test", file, name: [], result: "skipped", durationMs: 0, reason };
}

function machinesAtOnce(): number {
  const most = Number(process.env["BERTH_VM_MACHINES"] ?? mostMachines);
  return Math.min(most, availableParallelism(), Math.max(1, Math.floor(freemem() / machineBytes)));
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
