/** Prints the guests' results as they come, and what matters once more at the end. */
import type { GuestRecord, TestRecord } from "./guest/records.js";
import type { MachineEnd } from "./machine.js";

export interface Report {
  add: (record: GuestRecord) => void;
  /** prints the end and answers whether the run was good */
  finish: (endings: readonly MachineEnd[], durationMs: number) => boolean;
}

/** Output of a test file is kept up to this many characters and shown only when one of its tests fails. */
const outputLimit = 8000;

/** `root` is the repository's path in the guest, cut off from names; `print` gets one or more whole lines. */
export function createReport(root: string, print: (text: string) => void): Report {
  const tests: TestRecord[] = [];
  const output = new Map<string, string>();
  const booted = new Set<string>();

  const add = (record: GuestRecord): void => {
    switch (record.type) {
      case "boot":
        if (booted.has(record.kernel + record.cgroups)) break;
        booted.add(record.kernel + record.cgroups);
        print(`guest: Linux ${record.kernel}, ${record.cgroups}`);
        print(`guest: runner up ${(record.uptimeMs / 1000).toFixed(1)} s after the kernel's start`);
        break;
      case "test":
        tests.push(record);
        print(`${marks[record.result]} ${nameOf(root, record)} (${Math.round(record.durationMs)} ms)`);
        if (record.result === "failed") print(indented(record.error ?? "no reason was given"));
        break;
      case "output":
        output.set(record.file, ((output.get(record.file) ?? "") + record.text).slice(-outputLimit));
        break;
      case "ready":
      case "end":
        break;
      default:
        record satisfies never;
    }
  };

  const finish = (endings: readonly MachineEnd[], durationMs: number): boolean => {
    const failed = tests.filter((test) => test.result === "failed");
    const skipped = tests.filter((test) => test.result === "skipped");
    if (skipped.length > 0) {
      print("\nskipped:");
      for (const test of skipped) print(`  ${nameOf(root, test)}: ${test.reason ?? "no reason was given"}`);
    }
    if (failed.length > 0) {
      print("\nfailed:");
      for (const test of failed) print(`  ${nameOf(root, test)}\n${indented(test.error ?? "")}`);
      for (const file of new Set(failed.map((test) => test.file))) {
        const text = output.get(file);
        if (text !== undefined) print(`\noutput of ${short(root, file)}:\n${indented(text)}`);
      }
    }
    const bad = endings.filter((ending) => !ending.ended || ending.problem !== undefined);
    for (const { ended, problem, running } of bad) {
      const where = running === undefined ? "" : `, in ${short(root, running)}`;
      const what = ended ? "" : `a guest ended before its tests did${where}: `;
      print(`\n${what}${problem ?? "it powered off"}`);
    }
    const passed = tests.length - failed.length - skipped.length;
    print(`\nvm: ${(durationMs / 1000).toFixed(1)} s`);
    print(`${passed} passed, ${failed.length + bad.length} failed, ${skipped.length} skipped`);
    return failed.length + bad.length === 0 && passed > 0;
  };

  return { add, finish };
}

const marks = { passed: "ok     ", failed: "FAILED ", skipped: "skipped" };

function nameOf(root: string, test: TestRecord): string {
  return [short(root, test.file), ...test.name].join(" > ");
}

function short(root: string, path: string): string {
  return path.startsWith(`${root}/dist/`) ? path.slice(root.length + "/dist/".length) : path;
}

function indented(text: string): string {
  return text.trimEnd().replace(/^/gm, "      ");
}
