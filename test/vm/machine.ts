/** One virtual machine from start to end: qemu with TCG (no /dev/kvm needed), no network, results over a virtio port. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { createInterface } from "node:readline";
import { type GuestRecord, type Order, resultsPort } from "./guest/records.js";

export type SecurityModule = "apparmor" | "selinux";

/** What a test file took of the host. */
export interface Took {
  wallMs: number;
  /** of a core, which does not depend on what else the host does */
  cpuMs: number;
}

export interface MachineOptions {
  kernel: string;
  initramfs: string;
  /** raw image; the guest's writes go to a temporary file and are dropped */
  disk: string;
  consolePath: string;
  /** the one that the kernel starts with; it has both */
  securityModule: SecurityModule;
  init: "script" | "systemd";
  cgroups: "v2" | "hybrid";
  timeoutMs: number;
  signal: AbortSignal;
  /** the next test file's path in the guest, until there are no more */
  nextTest: () => string | undefined;
  onRecord: (record: GuestRecord) => void;
  onFileEnd: (file: string, took: Took) => void;
}

export interface MachineEnd {
  /** why the machine was ended from outside, or what qemu complained about; undefined when the guest powered off */
  problem: string | undefined;
  /** whether the guest said that it is through */
  ended: boolean;
  /** the test file that the guest had not finished */
  running: string | undefined;
}

/** Boots and waits for the end. The machine never outlives this call: it is killed on time-out and on abort. */
export async function runMachine(options: MachineOptions): Promise<MachineEnd> {
  // stdin and stdout are the host's end of the port
  const child = spawn("qemu-system-x86_64", qemuArguments(options), { stdio: ["pipe", "pipe", "pipe"] });
  if (child.pid !== undefined) setPriority(child.pid, 10);
  let problem: string | undefined;
  let ended = false;
  let running: string | undefined;
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-4000);
  });
  const kill = (reason: string): void => {
    problem ??= reason;
    child.kill("SIGKILL");
  };
  const timer = setTimeout(() => kill(`not through after ${options.timeoutMs / 1000} s: killed`), options.timeoutMs);
  const onAbort = (): void => kill("interrupted: killed");
  options.signal.addEventListener("abort", onAbort);
  const onExit = (): void => void child.kill("SIGKILL");
  process.once("exit", onExit);

  const spent = (): Took => ({ wallMs: performance.now(), cpuMs: cpuMsOf(child.pid) });
  let before = spent();
  const order = (): void => {
    const now = spent();
    if (running !== undefined) {
      options.onFileEnd(running, { wallMs: now.wallMs - before.wallMs, cpuMs: now.cpuMs - before.cpuMs });
    }
    before = now;
    running = options.nextTest();
    const answer: Order = running === undefined ? { end: true } : { run: running, settings: settings() };
    child.stdin.write(`${JSON.stringify(answer)}\n`);
  };
  // a guest that is gone is told by the end of its process
  child.stdin.on("error", () => {});
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    try {
      const record = JSON.parse(line) as GuestRecord;
      if (record.type === "ready") order();
      if (record.type === "end") ended = true;
      options.onRecord(record);
    } catch (error) {
      kill(`cannot read a result of the guest: ${line.slice(0, 200)}: ${String(error)}`);
    }
  });
  const drained = new Promise<void>((resolve) => lines.once("close", resolve));
  await new Promise<void>((resolve) => {
    child.once("error", (error) => {
      problem ??= `cannot start qemu-system-x86_64: ${error.message}`;
      resolve();
    });
    child.once("close", (code) => {
      if (code !== 0) problem ??= `qemu ended with ${code}: ${complaints.trim()}`;
      resolve();
    });
  });
  if (child.pid !== undefined) await drained;
  clearTimeout(timer);
  options.signal.removeEventListener("abort", onAbort);
  process.removeListener("exit", onExit);
  return { problem, ended, running };
}

/** User and system time of a process, in the kernel's hundredths of a second. */
function cpuMsOf(pid: number | undefined): number {
  if (pid === undefined || !existsSync(`/proc/${pid}/stat`)) return 0;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** qemu 7.2 leaves wrong flags after cmpxchg16b, by which a kernel may corrupt its memory. */
const cpu = "max,-cx16";

/** This process's variables that tests know. */
function settings(): Record<string, string> {
  const own = Object.entries(process.env).filter(
    ([name]) => name.startsWith("BERTH_") && !name.startsWith("BERTH_VM_"),
  );
  return Object.fromEntries(own.map(([name, value]) => [name, value ?? ""]));
}

/**
 * One CPU whose clock counts instructions, one nanosecond each (-icount): to the guest it is a machine of always the
 * same speed, however slow TCG and however busy the host is, so that time limits in tests mean what they say.
 */
function qemuArguments(options: MachineOptions): string[] {
  const commandLine = [
    "console=ttyS0",
    "loglevel=4",
    "panic=-1",
    "reboot=t",
    "mitigations=off",
    "nokaslr",
    "init_on_alloc=0",
    "random.trust_cpu=on",
    `security=${options.securityModule}`,
    `berth.init=${options.init}`,
    // systemd's own word for it
    ...(options.cgroups === "hybrid" ? ["systemd.unified_cgroup_hierarchy=0"] : []),
  ];
  return [
    ...[
      "-accel",
      "tcg,thread=single",
      "-icount",
      "shift=0",
      "-cpu",
      cpu,
      "-m",
      "2G",
      "-smp",
      "1",
      "-nodefaults",
      "-no-user-config",
    ],
    ...["-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"],
    ...["-kernel", options.kernel, "-initrd", options.initramfs, "-append", commandLine.join(" ")],
    ...["-drive", `file=${options.disk},format=raw,if=none,id=disk,snapshot=on,cache=unsafe`],
    ...["-device", "virtio-blk-pci,drive=disk"],
    ...["-serial", `file:${options.consolePath}`],
    ...["-chardev", "stdio,id=results,signal=off", "-device", "virtio-serial-pci"],
    ...["-device", `virtserialport,chardev=results,name=${resultsPort}`],
  ];
}
