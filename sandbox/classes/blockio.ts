/** Block-IO classes: weights, and limits of the bytes and operations a second that reach a device. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { deviceNumbers } from "../device-numbers.js";
import type { LinuxBlockIo } from "../spec/oci.js";

/** One rule of a class; of two for one device the later counts. */
export interface BlockioRule {
  /** paths, with *, ? and [] in the file's name; none: the weight is that of all devices that have none of their own */
  readonly devices: readonly string[];
  readonly weight?: number | undefined;
  /** a second */
  readonly readBytes?: number | undefined;
  readonly writeBytes?: number | undefined;
  readonly readOperations?: number | undefined;
  readonly writeOperations?: number | undefined;
}

interface Found {
  major: number;
  minor: number;
}

/** `unmatched` is told each pattern that no block device has. */
export async function toBlockIo(
  rules: readonly BlockioRule[],
  unmatched: (pattern: string) => void,
  lookup: (pattern: string) => Promise<Found[]> = blockDevices,
): Promise<LinuxBlockIo> {
  let weight: number | undefined;
  const byDevice = new Map<string, { device: Found; rule: Omit<BlockioRule, "devices"> }>();
  for (const { devices, ...rule } of rules) {
    if (devices.length === 0) weight = rule.weight ?? weight;
    for (const pattern of devices) {
      const found = await lookup(pattern);
      if (found.length === 0) unmatched(pattern);
      for (const device of found) {
        const key = `${device.major}:${device.minor}`;
        const said = Object.fromEntries(Object.entries(rule).filter(([, value]) => value !== undefined));
        byDevice.set(key, { device, rule: { ...byDevice.get(key)?.rule, ...said } });
      }
    }
  }
  const all = [...byDevice.values()];
  const rates = (name: "readBytes" | "writeBytes" | "readOperations" | "writeOperations") =>
    all.flatMap(({ device, rule }) => (rule[name] === undefined ? [] : [{ ...device, rate: rule[name] }]));
  const lists = {
    weightDevice: all.flatMap(({ device, rule }) =>
      rule.weight === undefined ? [] : [{ ...device, weight: rule.weight }],
    ),
    throttleReadBpsDevice: rates("readBytes"),
    throttleWriteBpsDevice: rates("writeBytes"),
    throttleReadIOPSDevice: rates("readOperations"),
    throttleWriteIOPSDevice: rates("writeOperations"),
  };
  return {
    ...(weight !== undefined && { weight }),
    ...Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0)),
  };
}

async function blockDevices(pattern: string): Promise<Found[]> {
  const directory = dirname(pattern);
  const names = await readdir(directory).catch(() => []);
  const wanted = nameMatcher(basename(pattern));
  const found = await Promise.all(
    names.filter((name) => wanted.test(name)).map((name) => deviceAt(join(directory, name))),
  );
  return found.flat();
}

async function deviceAt(path: string): Promise<Found[]> {
  const stats = await stat(path, { bigint: true }).catch(() => undefined);
  return stats?.isBlockDevice() ? [deviceNumbers(stats.rdev)] : [];
}

/** A file name's pattern as the shell has it. */
function nameMatcher(pattern: string): RegExp {
  const source = pattern.replace(/\[!?[^\]]+\]|[*?]|[^A-Za-z0-9_]/g, (part) => {
    if (part === "*") return ".*";
    if (part === "?") return ".";
    if (part.length > 1) return `[${part.slice(1, -1).replace(/^!/, "^").replaceAll("\\", "\\\\")}]`;
    return `\\${part}`;
  });
  return new RegExp(`^${source}$`);
}
