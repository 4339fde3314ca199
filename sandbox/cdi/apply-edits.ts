/** What CDI devices change in a container's OCI runtime spec. */
import { stat } from "node:fs/promises";
import { deviceNumbers } from "../device-numbers.js";
import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../errors.js";
import { withHooks } from "../hooks/merge.js";
import { mountDestination } from "../spec/mounts.js";
import type { LinuxDevice, LinuxDeviceCgroup, Mount, OciSpec } from "../spec/oci.js";
import { pathDepth } from "../spec/paths.js";
import type { DeviceEdits } from "./registry.js";
import type { CdiEdits } from "./spec-file.js";

type DeviceNode = NonNullable<CdiEdits["deviceNodes"]>[number];
type CdiMount = NonNullable<CdiEdits["mounts"]>[number];

/** A device node's numbers, as the host has them. */
type Lookup = (path: string, what: string) => Promise<Pick<LinuxDevice, "type" | "major" | "minor" | "fileMode">>;

/**
 * The spec with all edits applied, in order: of two that set one variable, node or mount the later wins.
 * @throws FailedPreconditionError for edits that Berth does not make; InvalidArgumentError for those that cannot be made
 */
export async function applyCdiEdits(
  spec: OciSpec,
  edits: readonly DeviceEdits[],
  lookup: Lookup = hostDevice,
): Promise<OciSpec> {
  let edited = spec;
  for (const part of edits) edited = await applyOne(edited, part, lookup);
  return edited;
}

async function applyOne(spec: OciSpec, { device: name, edits }: DeviceEdits, lookup: Lookup): Promise<OciSpec> {
  const what = `CDI device ${name}`;
  refuse(edits, what);
  const { process, linux } = spec;
  const nodes = await Promise.all((edits.deviceNodes ?? []).map((node) => toDevice(node, spec, { lookup, what })));
  const mounts = (edits.mounts ?? []).map((mount) => toMount(mount, what));
  const replaced = new Set(mounts.map(({ destination }) => destination));
  const groups = [...(process.user.additionalGids ?? []), ...(edits.additionalGids ?? []).filter((gid) => gid !== 0)];
  const hooks = (edits.hooks ?? []).map(({ hookName, path, args, env, timeout }) => ({
    [hookName]: [{ path, ...(args && { args }), ...(env && { env }), ...(timeout !== undefined && { timeout }) }],
  }));
  return {
    ...withHooks(spec, hooks),
    process: {
      ...process,
      env: mergeVariables(process.env, edits.env ?? []),
      user: { ...process.user, additionalGids: [...new Set(groups)] },
    },
    mounts: [...spec.mounts.filter(({ destination }) => !replaced.has(destination)), ...mounts].sort(
      (a, b) => pathDepth(a.destination) - pathDepth(b.destination),
    ),
    linux: {
      ...linux,
      devices: [
        ...linux.devices.filter(({ path }) => !nodes.some(({ device }) => device.path === path)),
        ...nodes.map(({ device }) => device),
      ],
      resources: {
        ...linux.resources,
        devices: [...(linux.resources.devices ?? []), ...nodes.flatMap(({ rules }) => rules)],
      },
    },
  };
}

function refuse(edits: CdiEdits, what: string): void {
  if (edits.intelRdt) throw new FailedPreconditionError(`${what} asks for intelRdt, which Berth does not set by CDI`);
  if (edits.netDevices?.length) {
    throw new FailedPreconditionError(`${what} asks for netDevices, which Berth does not move into pods`);
  }
}

function mergeVariables(env: readonly string[], added: readonly string[]): string[] {
  const variables = new Map([...env, ...added].map((text) => [text.slice(0, text.indexOf("=")), text]));
  return [...variables.values()];
}

async function toDevice(
  node: DeviceNode,
  { process }: OciSpec,
  { lookup, what }: { lookup: Lookup; what: string },
): Promise<{ device: LinuxDevice; rules: LinuxDeviceCgroup[] }> {
  const isKnown = node.type === "p" || (Boolean(node.type) && Boolean(node.major));
  const found = isKnown ? undefined : await lookup(node.hostPath ?? node.path, what);
  const type = (node.type || found?.type) ?? "c";
  const fileMode = node.fileMode ?? found?.fileMode;
  const major = node.major || (found?.major ?? 0);
  const minor = node.minor ?? found?.minor ?? 0;
  if (found !== undefined && node.type && node.type !== found.type && !(node.type === "u" && found.type === "c")) {
    throw new InvalidArgumentError(`${what}: its node ${node.path} is of type ${found.type}, not ${node.type}`);
  }
  const access = node.permissions || "rwm";
  return {
    device: {
      path: node.path,
      type,
      major,
      minor,
      ...(fileMode !== undefined && { fileMode: fileMode & 0o7777 }),
      uid: node.uid ?? process.user.uid,
      gid: node.gid ?? process.user.gid,
    },
    rules: type === "p" ? [] : [{ allow: true, type: type === "b" ? "b" : "c", major, minor, access }],
  };
}

async function hostDevice(path: string, what: string): ReturnType<Lookup> {
  try {
    const stats = await stat(path, { bigint: true });
    const isDevice = stats.isCharacterDevice() || stats.isBlockDevice();
    if (!isDevice && !stats.isFIFO()) throw new Error(`${path} is no device`);
    return {
      type: stats.isFIFO() ? "p" : stats.isBlockDevice() ? "b" : "c",
      ...deviceNumbers(stats.rdev),
      fileMode: Number(stats.mode & 0o777n),
    };
  } catch (error) {
    throw new InvalidArgumentError(`${what}: its node cannot be used: ${messageOf(error)}`, { cause: error });
  }
}

const propagations: Record<string, string> = { private: "rprivate", slave: "rslave", shared: "rshared" };
const allPropagations = new Set(Object.values(propagations));

function toMount({ hostPath, containerPath, options = [], type }: CdiMount, what: string): Mount {
  const destination = mountDestination(containerPath, `${what}: containerPath`);
  const named = options.map((option) => propagations[option] ?? option);
  if (type === "tmpfs") return { destination, type, source: "tmpfs", options: named };
  if (type && type !== "bind") {
    throw new FailedPreconditionError(
      `${what}: its mount on ${destination} is of type ${type}; bind and tmpfs are known`,
    );
  }
  if (!hostPath.startsWith("/")) {
    throw new InvalidArgumentError(`${what}: hostPath ${JSON.stringify(hostPath)} is not absolute`);
  }
  const tree = named.includes("bind") || named.includes("rbind") ? [] : ["bind"];
  const propagation = named.some((option) => allPropagations.has(option)) ? [] : ["rprivate"];
  return { destination, type: "bind", source: hostPath, options: [...tree, ...propagation, ...named] };
}
