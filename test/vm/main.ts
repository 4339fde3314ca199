/**
 * The virtual-machine lane, in the order in which it happens: a kernel from Debian, a disk image with the built
 * repository, a small initramfs for this run, one boot, and the results that come back over a virtio port.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { buildImage } from "./image.js";
import { buildInitramfs } from "./initramfs.js";
import { findKernel } from "./kernel.js";
import { runMachine } from "./machine.js";
import { guestRepository, payloadOf } from "./payload.js";
import { createReport } from "./report.js";
import { findTests } from "./tests.js";

const repository = fileURLToPath(new URL("../../../", import.meta.url));
const cache = join(repository, "build", "vm");

/** How long a whole run may take, the boot included; on a quiet host it takes a quarter of that. */
const defaultTimeoutMs = 40 * 60_000;

/** Runs the lane and returns the process's exit code: 0 when no test failed and the guest ended by itself. */
export async function main(filters: readonly string[]): Promise<number> {
  const tests = await findTests(repository, filters);
  if (tests.length === 0) {
    console.error(`test:vm: no test file matches ${filters.join(" ")}`);
    return 1;
  }
  const timeoutMs = process.env["BERTH_VM_TIMEOUT_S"]
    ? Number(process.env["BERTH_VM_TIMEOUT_S"]) * 1000
    : defaultTimeoutMs;
  const kernel = await findKernel(join(cache, "kernel"));
  const image = await buildImage(join(cache, "root.ext4"), await payloadOf(repository, kernel));
  const scratch = await mkdtemp(join(tmpdir(), "berth-vm-"));
  const consolePath = join(scratch, "console.log");
  const initramfs = join(scratch, "initramfs");
  await buildInitramfs(initramfs, kernel, {
    tests: tests.map((test) => join(guestRepository, relative(repository, test))),
    now: Date.now(),
  });
  console.log(`kernel ${kernel.release}, ${tests.length} test files, image ${image.built ? "built" : "unchanged"}`);
  console.log(`console: ${consolePath}`);

  const report = createReport(guestRepository, (line) => console.log(line));
  const abort = new AbortController();
  const onSignal = (): void => abort.abort(new Error("interrupted"));
  process.once("SIGINT", onSignal);
  process.once("SIGTERM", onSignal);
  const ending = await runMachine({
    kernel: kernel.image,
    initramfs,
    disk: image.path,
    consolePath,
    timeoutMs,
    signal: abort.signal,
    onRecord: report.add,
  });
  process.removeListener("SIGINT", onSignal);
  process.removeListener("SIGTERM", onSignal);

  const ok = report.finish(ending);
  if (ok) {
    await rm(scratch, { recursive: true });
  } else {
    await rm(initramfs);
    if (!report.complete() && existsSync(consolePath)) {
      const lines = (await readFile(consolePath, "latin1")).split("\n");
      console.log(`last lines of the console:\n${lines.slice(-40).join("\n")}`);
    }
  }
  return ok ? 0 : 1;
}
