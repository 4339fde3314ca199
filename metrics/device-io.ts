/** What cgroups have read from and written to block devices. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { native, type Sampler } from "../native/binding.js";
import type { CgroupManager } from "../sandbox/cgroup/manager.js";

export interface DeviceIo {
  major: string;
  minor: string;
  /** "/dev/vda" */
  device: string;
  readBytes: number;
  writtenBytes: number;
  reads: number;
  writes: number;
}

interface Source {
  root: string;
  version: 1 | 2;
  file: string;
  /** a fingerprint of the file: it stays open, and its text is asked for when it is another */
  sampler: Sampler;
  known: Map<string, { fingerprint: number; devices: DeviceIo[] }>;
}

const sources = new WeakMap<object, Source | null>();

/** By path; a cgroup that has used no device is left out. Empty when the host has no such controller. */
export async function readDeviceIo(
  cgroups: Pick<CgroupManager, "hierarchies">,
  paths: readonly string[],
): Promise<Map<string, DeviceIo[]>> {
  const result = new Map<string, DeviceIo[]>();
  const source = sourceOf(cgroups);
  if (source === null || paths.length === 0) return result;
  const fingerprints = await source.sampler.sample(paths, true);
  const known: Source["known"] = new Map();
  const changed = new Map<string, number>();
  for (const [index, path] of paths.entries()) {
    const fingerprint = fingerprints[2 * index + 1] as number;
    const before = source.known.get(path);
    if (before?.fingerprint === fingerprint) known.set(path, before);
    else changed.set(path, fingerprint);
  }
  for (const [path, devices] of await readDevices(source, [...changed.keys()])) {
    known.set(path, { fingerprint: changed.get(path) ?? Number.NaN, devices });
  }
  source.known = known;
  for (const [path, { devices }] of known) if (devices.length > 0) result.set(path, devices);
  return result;
}

function sourceOf({ hierarchies }: Pick<CgroupManager, "hierarchies">): Source | null {
  const known = sources.get(hierarchies);
  if (known !== undefined) return known;
  const place = hierarchies.find(({ controllers }) => controllers.includes("blkio") || controllers.includes("io"));
  let source: Source | null = null;
  if (place !== undefined) {
    const { mountPoint: root, version } = place;
    const file = version === 2 ? "io.stat" : "blkio.throttle.io_service_bytes_recursive";
    const sampler = native.openSampler([{ root, file, fingerprint: true, keys: [] }]);
    source = { root, version, file, sampler, known: new Map() };
  }
  sources.set(hierarchies, source);
  return source;
}

async function readDevices(
  { root, version, file }: Source,
  paths: readonly string[],
): Promise<Map<string, DeviceIo[]>> {
  const result = new Map<string, DeviceIo[]>();
  const texts = await readEach(root, paths, file);
  if (version === 2) {
    for (const [path, text] of texts) result.set(path, parseIoStat(text));
    return result;
  }
  // most have used no device at all: their other file has nothing either, and is not opened
  const used = [...texts].flatMap(([path, text]) => (/^\d/.test(text) ? [path] : []));
  const operations = await readEach(root, used, "blkio.throttle.io_serviced_recursive");
  for (const [path, text] of texts) result.set(path, parseThrottle(text, operations.get(path) ?? ""));
  return result;
}

/** Those that can be read. */
async function readEach(root: string, paths: readonly string[], file: string): Promise<Map<string, string>> {
  const reads = await native.readFiles(paths.map((path) => join(root, path, file)));
  const texts = new Map<string, string>();
  for (const [index, read] of reads.entries()) if ("content" in read) texts.set(paths[index] as string, read.content);
  return texts;
}

/** v2's io.stat: "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" a device. */
export function parseIoStat(text: string): DeviceIo[] {
  return text.split("\n").flatMap((line) => {
    const [number = "", ...words] = line.split(" ");
    const values = new Map(words.map((word) => word.split("=") as [string, string]));
    if (!number.includes(":") || values.size === 0) return [];
    const value = (name: string) => Number(values.get(name) ?? 0);
    const io = ofDevice(number);
    return [
      { ...io, readBytes: value("rbytes"), writtenBytes: value("wbytes"), reads: value("rios"), writes: value("wios") },
    ];
  });
}

/** v1's two files: "254:0 Read 1" a line. */
export function parseThrottle(bytes: string, operations: string): DeviceIo[] {
  const devices = new Map<string, DeviceIo>();
  const take = (text: string, read: "readBytes" | "reads", write: "writtenBytes" | "writes") => {
    for (const [, number = "", operation, value] of text.matchAll(/^(\d+:\d+) (Read|Write) (\d+)$/gm)) {
      const io = devices.get(number) ?? ofDevice(number);
      io[operation === "Read" ? read : write] = Number(value);
      devices.set(number, io);
    }
  };
  take(bytes, "readBytes", "writtenBytes");
  take(operations, "reads", "writes");
  return [...devices.values()];
}

function ofDevice(number: string): DeviceIo {
  const [major = "", minor = ""] = number.split(":");
  return { major, minor, device: deviceName(number), readBytes: 0, writtenBytes: 0, reads: 0, writes: 0 };
}

const names = new Map<string, string>();

/** As the kernel calls it; a device without a name (it is gone) has its number. */
export function deviceName(number: string): string {
  const known = names.get(number);
  if (known !== undefined) return known;
  let name = number;
  try {
    const found = /^DEVNAME=(.*)$/m.exec(readFileSync(`/sys/dev/block/${number}/uevent`, "utf8"));
    if (found?.[1] !== undefined) name = `/dev/${found[1]}`;
  } catch {
    // no block device: a number of btrfs' or of overlay's own
  }
  names.set(number, name);
  return name;
}
