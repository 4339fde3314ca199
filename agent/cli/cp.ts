import { closeSync, constants, lstatSync, openSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, posix } from "node:path";
import type { Command } from "commander";
import { isSystemError, native } from "../../native/binding.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { copyEntry } from "./copy-tree.js";
import { UsageError } from "./failure.js";
import { onlyPath, type Place } from "./place.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("cp <[CONTAINER:]SOURCE> <[CONTAINER:]TARGET>")
    .description("copy a file or a directory out of a running container, or into it");
  addClientOptions(command, { json: false }).action(cp);
}

/** A path of the host's, or one in a container. */
interface Location {
  container: string | null;
  path: string;
}

async function cp(source: string, target: string, options: ClientOptions): Promise<void> {
  const [from, to] = [parse(source), parse(target)];
  const container = from.container ?? to.container;
  if (container === null || (from.container !== null && to.container !== null)) {
    throw new UsageError("one of the two must be in a container: CONTAINER:PATH");
  }
  await withClient(options, async (client) => {
    const root = await openRoot(client, container);
    try {
      const rootOf = (location: Location) => (location.container === null ? null : root.fd);
      const found = findSource(rootOf(from), from.path, source);
      const place = findTarget(rootOf(to), to.path, found.name);
      try {
        const owner = to.container === null ? ourselves() : root.owner;
        copyEntry(found, place, { owner, skipped, vanished, tooManyLinks }, source);
      } finally {
        for (const { directory } of [found, place]) closeSync(directory);
      }
    } finally {
      closeSync(root.fd);
    }
  });
}

/** "web:/etc/hosts"; what begins with "." or "/" is never a container's. */
function parse(text: string): Location {
  const [, container, path] = /^([A-Za-z0-9][\w.-]*):(.*)$/s.exec(text) ?? [];
  if (container === undefined || path === undefined) return { container: null, path: text };
  if (path === "") throw new UsageError(`${text}: the path is missing`);
  return { container, path: posix.resolve("/", path) };
}

interface ContainerRoot {
  /** its root directory, with its mounts, as its first process sees it */
  fd: number;
  /** ids of the host that are root inside */
  owner: { uid: number; gid: number };
}

async function openRoot(client: Client, id: string): Promise<ContainerRoot> {
  const pid = await pidOf(client, id);
  const fd = native.openPath(`/proc/${pid}/root`);
  try {
    const owner = { uid: hostId(pid, "uid_map"), gid: hostId(pid, "gid_map") };
    // the number has been the container's all the time
    if ((await pidOf(client, id)) !== pid) throw new Error(`container ${id} has ended`);
    return { fd, owner };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

async function pidOf(client: Client, id: string): Promise<number> {
  const { info } = await client.call("ContainerStatus", { container_id: id, verbose: true });
  const { pid } = JSON.parse(info["info"] ?? "{}") as { pid?: number };
  if (!pid) throw new Error(`container ${id} is not running`);
  return pid;
}

/** Of root inside. */
function hostId(pid: number, map: "uid_map" | "gid_map"): number {
  for (const line of readFileSync(`/proc/${pid}/${map}`, "utf8").split("\n")) {
    const [inside, outside] = line.trim().split(/\s+/).map(Number);
    if (inside === 0 && outside !== undefined) return outside;
  }
  return 0;
}

/** A link at its end is copied as one, and not followed. */
function findSource(root: number | null, path: string, shown: string): Place {
  const whole = root === null ? posix.resolve(path) : path;
  if (whole === "/") return { directory: open(root, whole), name: Buffer.from(".") };
  try {
    const place = { directory: open(root, dirname(whole)), name: Buffer.from(basename(whole)) };
    lstatSync(`/proc/self/fd/${place.directory}/${basename(whole)}`);
    return place;
  } catch (error) {
    if (isMissing(error)) throw new Error(`${shown} is not there`, { cause: error });
    throw error;
  }
}

/** Into a directory that is there, or by a name that is not there yet. */
function findTarget(root: number | null, path: string, name: Buffer): Place {
  const whole = root === null ? posix.resolve(path) : path;
  try {
    const target = open(root, whole);
    if (statSync(`/proc/self/fd/${target}`).isDirectory()) return { directory: target, name };
    closeSync(target);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  return { directory: open(root, dirname(whole)), name: Buffer.from(basename(whole)) };
}

function open(root: number | null, path: string): number {
  if (root !== null) return native.openPathInRoot({ rootFd: root, path });
  // the caller's own path: its links are followed
  return openSync(path, constants.O_RDONLY | onlyPath);
}

function isMissing(error: unknown): boolean {
  return isSystemError(error) ? error.errnoName === "ENOENT" : (error as NodeJS.ErrnoException).code === "ENOENT";
}

function ourselves(): { uid: number; gid: number } {
  return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
}

function vanished(path: string): void {
  process.stderr.write(`berth: ${path} was removed meanwhile, and is left out\n`);
}

function skipped(path: string): void {
  process.stderr.write(`berth: ${path} is neither a file, a directory nor a link, and is left out\n`);
}

function tooManyLinks(): void {
  process.stderr.write("berth: there are too many hard links; some of these files are copied apart\n");
}
