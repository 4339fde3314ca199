/** Bind mounts' sources as detached mounts: nothing is attached anywhere on the host. */
import { fstatSync, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { isSystemError, native, type TreeOptions } from "../native/binding.js";
import type { ContainerConfig } from "./container.js";
import { InternalError, InvalidArgumentError, messageOf } from "./errors.js";
import { mountBehind, parseMountInfo } from "./mount-info.js";
import { mountAttribute, mountPropagation, parseMountOptions } from "./mount-options.js";
import { followsHost } from "./propagation.js";
import { type Relabelling, relabel } from "./relabel.js";
import { type ImageVolumeSource, parseImageVolumeSource } from "./spec/image-volumes.js";
import type { Mount, OciSpec } from "./spec/oci.js";
import type { OpenUserNamespaces } from "./user-namespaces.js";

/** What a monitor takes for one container, less the root file system. */
const maxSources = 4095;

/** as the addon names this use of mount_setattr(2) */
const idmapCall = "mount_setattr MOUNT_ATTR_IDMAP";

export interface OpenMount {
  /** the mount of the spec that it belongs to */
  mount: Mount;
  /** detached, with its attributes and propagation set */
  fd: number;
  isFile: boolean;
}

export interface OpenMounts {
  mounts: OpenMount[];
  /** closes the descriptors; the kernel has given the receiver of a message its own */
  close(): void;
}

/**
 * A source that is missing is an error, the CRI says. The kubelet, however, leaves `hostPath` volumes without a type to
 * the runtime, and every runtime makes a directory then. Its containers are known by the label that it gives to all.
 */
export function makesMissingSources(config: ContainerConfig): boolean {
  return config.labels?.["io.kubernetes.container.name"] !== undefined;
}

export interface OpenMountsOptions {
  /** makes a directory for a source that is not there; null: that is an error */
  makeMissing: ((path: string) => void) | null;
  /** a detached mount of an image's content; the descriptor becomes the caller's */
  mountImage?: (source: ImageVolumeSource, userNamespaceFd?: number) => Promise<number>;
  /** absent: no labels are changed */
  relabelling?: Relabelling | undefined;
  /** of the mounts with id mappings */
  namespaces?: Pick<OpenUserNamespaces, "descriptorFor">;
}

/**
 * Opens the source of each bind mount, links followed, as the options of the spec ask. A source that cannot be opened is
 * an InvalidArgumentError that names both paths; then everything is closed and nothing left.
 */
export async function openMounts(spec: OciSpec, options: OpenMountsOptions): Promise<OpenMounts> {
  const opened: OpenMount[] = [];
  const close = (): void => {
    for (const { fd } of opened.splice(0)) native.closeDescriptor(fd);
  };
  const sources = spec.mounts.filter(({ type }) => type === "bind");
  if (sources.length > maxSources) {
    throw new InvalidArgumentError(
      `config.mounts: ${sources.length} mounts with those of the pod's own files; at most ${maxSources} are possible`,
    );
  }
  try {
    const plain = sources.filter((mount) => isPlain(mount, options));
    opened.push(...(await openAtOnce(plain)));
    const done = new Set(opened.map(({ mount }) => mount));
    const left = sources.filter((mount) => !done.has(mount));
    // those that follow the host come last: what is mounted there from then on may be missed, and is looked for
    for (const mount of [...left.filter((one) => !followsHost(one)), ...left.filter(followsHost)]) {
      const image = parseImageVolumeSource(mount.source);
      const fd = image === null ? await openHostPath(mount, options) : await openImage(mount, image, options);
      opened.push({ mount, fd, isFile: !fstatSync(fd).isDirectory() });
    }
    return { mounts: opened, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function openHostPath(mount: Mount, options: OpenMountsOptions): Promise<number> {
  try {
    if (options.makeMissing !== null && (await isMissing(mount.source))) options.makeMissing(mount.source);
    const userNamespaceFd = await userNamespaceOf(mount, options);
    const { label, sources } = options.relabelling ?? {};
    if (label === undefined || !sources?.has(mount.source))
      return await openSource(mount, mount.source, userNamespaceFd);
    // what is labelled is what is mounted, whoever moves the path meanwhile
    const place = native.openPath(mount.source);
    try {
      await relabel(place, mount.source, label);
      return await openSource(mount, `/proc/self/fd/${place}`, userNamespaceFd);
    } finally {
      native.closeDescriptor(place);
    }
  } catch (error) {
    throw sourceError(mount, error);
  }
}

/** undefined: the mount shows ids as they are. */
async function userNamespaceOf(
  { destination, uidMappings, gidMappings }: Mount,
  { namespaces }: OpenMountsOptions,
): Promise<number | undefined> {
  const [uids, gids] = [uidMappings?.[0], gidMappings?.[0]];
  if (!uids || !gids) return undefined;
  if (namespaces === undefined) throw new InternalError(`nobody can map the ids of ${destination}`);
  return namespaces.descriptorFor({ uids, gids });
}

/** Nothing has to be looked at, mapped or labelled before. */
function isPlain({ source, options, uidMappings, gidMappings }: Mount, { relabelling }: OpenMountsOptions): boolean {
  return (
    parseImageVolumeSource(source) === null &&
    parseMountOptions(options).propagation === mountPropagation.rprivate &&
    !uidMappings?.length &&
    !gidMappings?.length &&
    !relabelling?.sources.has(source)
  );
}

/**
 * A container of a kubelet has six or more, and to open one takes less than the way to a thread and back. None when one of
 * them cannot be opened: what is wrong with which is told when each is opened by itself.
 */
async function openAtOnce(mounts: readonly Mount[]): Promise<OpenMount[]> {
  if (mounts.length === 0) return [];
  let fds: number[];
  try {
    fds = await native.openTrees(mounts.map((mount) => treeOf(mount, mount.source)));
  } catch {
    return [];
  }
  try {
    return mounts.map((mount, index) => {
      const fd = fds[index] as number;
      setOptions(fd, mount);
      return { mount, fd, isFile: !fstatSync(fd).isDirectory() };
    });
  } catch {
    for (const fd of fds) native.closeDescriptor(fd);
    return [];
  }
}

async function openSource(mount: Mount, source: string, userNamespaceFd: number | undefined): Promise<number> {
  const { propagation } = parseMountOptions(mount.options);
  if (propagation !== mountPropagation.rprivate) checkPropagation(source, propagation);
  const fd = await native.openTree({
    ...treeOf(mount, source),
    ...(userNamespaceFd !== undefined && { userNamespaceFd }),
  });
  try {
    setOptions(fd, mount);
  } catch (error) {
    native.closeDescriptor(fd);
    throw error;
  }
  return fd;
}

function treeOf({ options }: Mount, source: string): TreeOptions {
  const { propagation } = parseMountOptions(options);
  return {
    path: source,
    recursive: options.includes("rbind"),
    // the clone of a shared mount is its peer already
    ...(propagation !== mountPropagation.rshared && { attributes: { propagation, recursive: true } }),
  };
}

function setOptions(fd: number, { options }: Mount): void {
  const { attributes, cleared, recursiveReadonly } = parseMountOptions(options);
  if (attributes !== 0 || cleared !== 0) native.setMountAttributes(fd, { set: attributes, clear: cleared });
  if (recursiveReadonly) native.setMountAttributes(fd, { set: mountAttribute.ro, recursive: true });
}

/** The kubelet knows the failure of an image volume by this first word. */
const imageVolumeFailure = "ImageVolumeMountFailed";

async function openImage(mount: Mount, source: ImageVolumeSource, options: OpenMountsOptions): Promise<number> {
  const { mountImage } = options;
  const { attributes, cleared, propagation } = parseMountOptions(mount.options);
  if (mountImage === undefined) throw new InternalError(`nobody can open the image of ${mount.destination}`);
  let fd: number | undefined;
  try {
    fd = await mountImage(source, await userNamespaceOf(mount, options));
    native.setMountAttributes(fd, { set: attributes, clear: cleared, propagation });
    return fd;
  } catch (error) {
    if (fd !== undefined) native.closeDescriptor(fd);
    const part = source.subPath === "" ? "image" : `image_sub_path ${JSON.stringify(source.subPath)} of the image`;
    throw new InvalidArgumentError(
      `${imageVolumeFailure}: config.mounts: the ${part} of the mount with container_path ${mount.destination} cannot be mounted: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Propagation comes from the mount that the source lies on: of a private one nothing would ever arrive. */
function checkPropagation(source: string, propagation: number): void {
  const fd = native.openPath(source);
  try {
    const behind = mountBehind(fd, parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8")));
    if (behind?.isShared || (behind?.isSlave && propagation === mountPropagation.rslave)) return;
    const wanted = propagation === mountPropagation.rslave ? "neither shared nor a slave" : "not shared";
    throw new InvalidArgumentError(
      `it lies on the mount ${behind?.mountPoint ?? "?"}, which is ${wanted}, as its propagation needs`,
    );
  } finally {
    native.closeDescriptor(fd);
  }
}

async function isMissing(path: string): Promise<boolean> {
  try {
    await stat(path);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOENT";
  }
}

function sourceError({ source, destination }: Mount, error: unknown): InvalidArgumentError {
  if (isSystemError(error) && error.syscall === idmapCall) {
    return new InvalidArgumentError(
      `config.mounts: the ids of the host_path ${source} of the mount with container_path ${destination} cannot be mapped (uidMappings): its file system does not support it, or they are mapped already`,
      { cause: error },
    );
  }
  return new InvalidArgumentError(
    `config.mounts: the host_path ${source} of the mount with container_path ${destination} cannot be opened: ${messageOf(error)}`,
    { cause: error },
  );
}
