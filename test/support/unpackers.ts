import { readdirSync, readFileSync } from "node:fs";

/** Process ids of unpackers of layers below a directory. */
export function unpackers(root: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "latin1");
        return command.includes("berth-unpack") && command.includes(root);
      } catch {
        return false;
      }
    })
    .map(Number);
}
