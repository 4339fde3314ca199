/**
 * OCI bundles like a container, for other runtimes and for looking at. Unlike everything else that is mounted, a bundle
 * has names on the host, until its owner has it unmounted:
 *
 *   DIR/config.json        the spec
 *   DIR/rootfs             the image's layers, with a writable one of its own
 *   DIR/volumes/<n>        image volumes
 *   DIR/layer/             the writable layer
 */
import { fstatSync } from "node:fs";
import { mkdir, readdir, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import { runtime } from "../cri-proto/generated/runtime.js";
import { isSystemError, native } from "../native/binding.js";
import type { Container } from "./container.js";
import { makeDirectories } from "./directories.js";
import { FailedPreconditionError, InvalidArgumentError, messageOf } from "./errors.js";
import type { SandboxNode } from "./node.js";
import type { Pod } from "./pod.js";
import { controllersForRuntimes } from "./runtime-bundle.js";
import { completeSpec } from "./seccomp-filters.js";
import { readSmallFile } from "./small-files.js";
import { type BundlePlace, bundleAnnotation, bundleSpec, specToJson } from "./spec/bundle-spec.js";
import { pidSharingAnnotation } from "./spec/namespaces.js";
import type { LinuxNamespace, OciSpec } from "./spec/oci.js";
import { podSysctls } from "./spec/sysctls.js";
import { podUserNamespace } from "./spec/user-namespace.js";
import { Undo } from "./undo.js";

const { NamespaceMode } = runtime.v1;
/** more than any request can make of it */
const mostSpecBytes = 64 * 1024 * 1024;

/** Writes and mounts a bundle in a directory that is not there, or empty. On failure nothing of it is left. */
export async function mountBundle(node: SandboxNode, container: Container, path: string): Promise<void> {
  const directory = checkedDirectory(path);
  const { id, podId, spec, layers, volumeLayers } = container.record;
  if (spec === null) throw new FailedPreconditionError(`container ${id} has no spec yet`);
  const pod = node.pods.resolve(podId);
  if (podUserNamespace(pod.config) !== undefined) {
    throw new FailedPreconditionError(`container ${id} is in a user namespace, for which no bundle can be made`);
  }
  const place = placeOf(node, pod, container);
  const bundle = bundleSpec(completeSpec(spec), directory, place);
  const undo = new Undo();
  try {
    makeDirectories(directory, 0o700);
    if ((await readdir(directory)).length > 0) throw new InvalidArgumentError(`directory: ${directory} is not empty`);
    undo.push("remove what is in the bundle", () => removeContent(node, directory));
    const home = join(directory, "layer");
    await mkdir(home);
    await attach(join(directory, "rootfs"), (await node.snapshots.prepareRootfsIn({ home, layers })).rootFd, undo);
    for (const { path: volume, imageId, subPath } of bundle.volumes) {
      const fd = await node.snapshots.mountImage({ layers: volumeLayers?.[imageId] ?? [], subPath });
      await attach(volume, fd, undo);
    }
    await writeFile(join(directory, "config.json"), `${specToJson(bundle.spec)}\n`, { mode: 0o600 });
    undo.commit();
  } catch (error) {
    const left = (await undo.run()).map((failed) => `; not done: ${failed.what}: ${messageOf(failed.error)}`);
    if (error instanceof InvalidArgumentError) throw error;
    throw new FailedPreconditionError(
      `the bundle ${directory} could not be made: ${messageOf(error)}${left.join("")}`,
      { cause: error },
    );
  }
}

/** Unmounts and removes a bundle, of whatever container it was. InvalidArgumentError: it is none of ours. */
export async function unmountBundle(node: SandboxNode, path: string): Promise<void> {
  const directory = checkedDirectory(path);
  let spec: Partial<OciSpec>;
  try {
    spec = JSON.parse(await readSmallFile(join(directory, "config.json"), mostSpecBytes));
  } catch (error) {
    throw new InvalidArgumentError(`directory: ${directory} is no bundle: ${messageOf(error)}`, { cause: error });
  }
  if (spec.annotations?.[bundleAnnotation] === undefined) {
    throw new InvalidArgumentError(`directory: ${directory} is a bundle, but none that berth has made`);
  }
  for (const name of await namesIn(join(directory, "volumes")))
    await unmountIfMounted(join(directory, "volumes", name));
  await unmountIfMounted(join(directory, "rootfs"));
  await removeContent(node, directory);
  await rm(directory, { recursive: true });
}

function checkedDirectory(path: string): string {
  if (!isAbsolute(path) || path.includes("\0")) {
    throw new InvalidArgumentError(`directory: ${JSON.stringify(path)} is not an absolute path`);
  }
  const normal = normalize(path).replace(/\/$/, "");
  if (normal === "") throw new InvalidArgumentError("directory: the root directory can hold no bundle");
  return normal;
}

async function attach(path: string, fd: number, undo: Undo): Promise<void> {
  try {
    const isDirectory = fstatSync(fd).isDirectory();
    await mkdir(isDirectory ? path : dirname(path), { recursive: true });
    if (!isDirectory) await writeFile(path, "");
    await native.attachMount(fd, path);
    undo.push(`unmount ${path}`, () => native.unmount(path));
  } finally {
    native.closeDescriptor(fd);
  }
}

async function unmountIfMounted(path: string): Promise<void> {
  try {
    await native.unmount(path);
  } catch (error) {
    // EINVAL: nothing is mounted there any more
    if (!isSystemError(error) || !["EINVAL", "ENOENT"].includes(error.errnoName)) throw error;
  }
}

/** Takes nothing away that is still mounted: what is a mount point cannot be removed. */
async function removeContent(node: SandboxNode, directory: string): Promise<void> {
  const volumes = join(directory, "volumes");
  for (const name of await namesIn(volumes)) await removeMountPoint(join(volumes, name));
  await removeMountPoint(volumes);
  await removeMountPoint(join(directory, "rootfs"));
  await node.snapshots.removeRootfsIn(join(directory, "layer"));
  await rm(join(directory, "config.json"), { force: true });
}

async function removeMountPoint(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOTDIR") await rm(path);
    else if (code !== "ENOENT") throw error;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** What the pod gives its containers, said for a runtime that knows no pods. */
function placeOf(node: SandboxNode, pod: Pod, container: Container): BundlePlace {
  const ofCgroup = { cgroupsPath: `${container.record.cgroupPath}-bundle`, controllers: controllersForRuntimes(node) };
  const modes = pod.config.linux?.security_context?.namespace_options;
  const ownNetwork = modes?.network !== NamespaceMode.NODE;
  const ownIpc = modes?.ipc !== NamespaceMode.NODE;
  const sharing = container.record.spec?.annotations?.[pidSharingAnnotation];
  const sharesProcesses = sharing === "pod" || sharing === "target";
  if (pod.record.phase === "ready") {
    const ofMonitor = (name: string) => `/proc/${pod.monitorPid}/ns/${name}`;
    return {
      namespaces: [
        ...(ownNetwork ? [{ type: "network" as const, path: pod.record.netnsPath }] : []),
        ...(ownNetwork ? [{ type: "uts" as const, path: ofMonitor("uts") }] : []),
        ...(ownIpc ? [{ type: "ipc" as const, path: ofMonitor("ipc") }] : []),
        ...(sharesProcesses ? [pidNamespaceOf(container)] : []),
      ],
      hostname: "",
      sysctl: {},
      ...ofCgroup,
    };
  }
  // a pod that was stopped has none any more: new ones like them, and no network but the host's
  const sysctls = ownIpc ? Object.entries(podSysctls(pod.config)) : [];
  return {
    namespaces: [
      ...(ownNetwork ? [{ type: "uts" as const }] : []),
      ...(ownIpc ? [{ type: "ipc" as const }] : []),
      ...(sharesProcesses ? [{ type: "pid" as const }] : []),
    ],
    hostname: (ownNetwork && pod.config.hostname) || "",
    sysctl: Object.fromEntries(sysctls.filter(([name]) => !name.startsWith("net."))),
    ...ofCgroup,
  };
}

/**
 * That of other containers. A container which has not started is not in it yet, but has set what its program will be in; one
 * that has ended cannot show it any more.
 */
function pidNamespaceOf({ pid, record }: Container): LinuxNamespace {
  const name = record.phase === "created" ? "pid_for_children" : "pid";
  return pid === 0 ? { type: "pid" } : { type: "pid", path: `/proc/${pid}/ns/${name}` };
}
