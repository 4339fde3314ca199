import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Finding } from "../doctor.js";

const toleranceMs = 60_000;
const consequence = "certificates of registries and of the API server are refused, and ages that people read are wrong";
const remedy = "Set the clock, and have it kept: systemd-timesyncd, chrony, or the virtual machine's own.";

/** Without asking anybody; a registry's answer tells more (registries.ts). */
export function clockFindings(root: string): Finding[] {
  const built = statSync(fileURLToPath(import.meta.url)).mtimeMs;
  if (Date.now() < built - toleranceMs) {
    const what = `the clock says ${new Date().toISOString()}, which is before this program was built`;
    return [{ id: "ClockBehind", severity: "error", what, consequence, remedy }];
  }
  // made by timesyncd and chrony alike, once the clock is right
  const service = ["usr/lib/systemd/systemd-timesyncd", "lib/systemd/systemd-timesyncd"].find((path) =>
    existsSync(join(root, path)),
  );
  const isSystemd = existsSync(join(root, "run/systemd/system"));
  if (!isSystemd || service === undefined || existsSync(join(root, "run/systemd/timesync/synchronized"))) return [];
  return [
    {
      id: "ClockNotSynchronized",
      severity: "note",
      what: "systemd-timesyncd is installed, and has not set the clock since the boot",
      consequence: "the clock may be wrong; if it is much, certificates are refused",
      remedy: "See timedatectl timesync-status; nothing needs to be done where another program keeps the clock.",
    },
  ];
}

/** @param date of an answer's header: what another machine thinks that it is */
export function clockAgainst(date: string | undefined, host: string, now = Date.now()): Finding[] {
  const theirs = Date.parse(date ?? "");
  const differenceMs = now - theirs;
  if (Number.isNaN(theirs) || Math.abs(differenceMs) < toleranceMs) return [];
  const seconds = Math.round(Math.abs(differenceMs) / 1000);
  return [
    {
      id: "ClockOff",
      severity: "warning",
      what: `the clock is ${seconds} s ${differenceMs > 0 ? "ahead of" : "behind"} that of ${host}`,
      consequence,
      remedy,
    },
  ];
}
