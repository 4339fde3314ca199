/** The CDI devices of this host: what the specification files in the configured directories define at this moment. */
import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { InvalidArgumentError, messageOf } from "../errors.js";
import type { AskedDevice } from "./names.js";
import { type CdiEdits, type CdiSpec, checkCdiSpec } from "./spec-file.js";

const maxFileBytes = 8 * 1024 * 1024;

interface Definition {
  file: string;
  /** of its directory: the later ones count more */
  priority: number;
  spec: CdiSpec;
  edits: CdiEdits;
}

interface Registry {
  devices: Map<string, Definition[]>;
  /** files that could not be taken, and why */
  broken: string[];
}

/** A part of what a device changes. */
export interface DeviceEdits {
  /** "vendor.com/class=name" */
  device: string;
  edits: CdiEdits;
}

/**
 * The edits of the devices that are asked for, in order; what a file says for all its devices comes once, before the
 * first of them. Files in a later directory count more than those in an earlier one.
 * @throws InvalidArgumentError that names the device: nobody defines it, or two files of one directory do
 */
export async function findCdiEdits(
  asked: readonly AskedDevice[],
  directories: readonly string[],
): Promise<DeviceEdits[]> {
  if (asked.length === 0) return [];
  const registry = await readRegistry(directories);
  const seen = new Set<CdiSpec>();
  return asked.flatMap(({ name, field }) => {
    const { spec, edits } = definitionOf(name, field, { registry, directories });
    const ofAll = seen.has(spec) || spec.containerEdits === undefined ? [] : [spec.containerEdits];
    seen.add(spec);
    return [...ofAll, edits].map((part) => ({ device: name, edits: part }));
  });
}

function definitionOf(
  name: string,
  field: string,
  { registry, directories }: { registry: Registry; directories: readonly string[] },
): Definition {
  const definitions = registry.devices.get(name) ?? [];
  const highest = Math.max(...definitions.map(({ priority }) => priority));
  const [definition, rival] = definitions.filter(({ priority }) => priority === highest);
  if (definition === undefined) {
    const broken = registry.broken.length === 0 ? "" : ` (these files cannot be used: ${registry.broken.join("; ")})`;
    throw new InvalidArgumentError(
      `${field}: no file in ${directories.join(", ")} defines the CDI device ${name}${broken}`,
    );
  }
  if (rival !== undefined) {
    throw new InvalidArgumentError(`${field}: both ${definition.file} and ${rival.file} define the CDI device ${name}`);
  }
  return definition;
}

async function readRegistry(directories: readonly string[]): Promise<Registry> {
  const registry: Registry = { devices: new Map(), broken: [] };
  for (const [priority, directory] of directories.entries()) {
    for (const file of await specFiles(directory, registry)) {
      try {
        const spec = checkCdiSpec(await parseFile(file));
        for (const { name, containerEdits } of spec.devices) {
          const qualified = `${spec.kind}=${name}`;
          const known = registry.devices.get(qualified) ?? [];
          registry.devices.set(qualified, [...known, { file, priority, spec, edits: containerEdits }]);
        }
      } catch (error) {
        registry.broken.push(`${file}: ${messageOf(error)}`);
      }
    }
  }
  return registry;
}

async function specFiles(directory: string, registry: Registry): Promise<string[]> {
  try {
    const names = await readdir(directory);
    const specs = names.filter((name) => [".json", ".yaml"].includes(extname(name)));
    return specs.sort().map((name) => join(directory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") registry.broken.push(messageOf(error));
    return [];
  }
}

async function parseFile(path: string): Promise<unknown> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new Error("it is no regular file");
    if (stats.size > maxFileBytes) throw new Error("it is larger than 8 MiB");
    const text = await file.readFile("utf8");
    if (extname(path) === ".json") return JSON.parse(text);
    // loaded by those who have such files
    const { parse } = (await import("yaml")).default;
    return parse(text);
  } finally {
    await file.close();
  }
}
