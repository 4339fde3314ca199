import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import { imageVolumeSource } from "./image-volumes.js";
import type { Mount } from "./oci.js";
import { absolutePath, isWithin, pathDepth } from "./paths.js";
import { mountIdMappings, toHostId, type UserNamespace } from "./user-namespace.js";

const { MountPropagation } = runtime.v1;

/** Absolute paths on the host of the files that every container of the pod gets. */
export interface PodFilePaths {
  resolvConf: string;
  hostname: string;
  hosts: string;
}

/** The source by which a spec's tmpfs on /dev/shm is known as the pod's own. */
export const podShmSource = "shm";
const podShmSize = "size=65536k";

/** What lxcfs puts over single files of /proc; whatever else is put there could fake what the launcher relies on. */
const coverableProcFiles = new Set(
  ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"].map((name) => `/proc/${name}`),
);

/** Options of Mount.mount_options: each takes something away from what the mount can be used for. */
const extraOptions = new Set([
  "nosuid",
  "nodev",
  "noexec",
  "noatime",
  "nodiratime",
  "relatime",
  "strictatime",
  "nosymfollow",
]);

export interface MountInput {
  config: ContainerConfig;
  podFiles: PodFilePaths;
  privileged: boolean;
  readonlyRootfs: boolean;
  hostIpc: boolean;
  /** the pod's own */
  users: UserNamespace | undefined;
}

/** All mounts of a container, the outer before the inner. Where the request mounts something itself, ours is left out. */
export function mounts(input: MountInput): Mount[] {
  const requested = (input.config.mounts ?? []).map((mount, index) =>
    requestedMount(mount, `config.mounts[${index}]`, input.users),
  );
  const taken = new Set(requested.map((mount) => mount.destination));
  const ours = [...systemMounts(input), ...podFileMounts(input)].filter(
    ({ destination }) => !taken.has(destination) && !(taken.has("/dev") && isWithin(destination, "/dev")),
  );
  // sort is stable: of two at one place the later one covers the earlier
  return [...ours, ...requested].sort((a, b) => pathDepth(a.destination) - pathDepth(b.destination));
}

function systemMounts({ privileged, hostIpc, users }: MountInput): Mount[] {
  // of tty; a namespace of few ids may not have it
  const ttyGroup = users === undefined || toHostId(users.gids, 5) !== undefined ? ["gid=5"] : [];
  const access = privileged ? "rw" : "ro";
  const shm: Mount = hostIpc
    ? bind("/dev/shm", "/dev/shm", ["rprivate", "rw", "nosuid", "nodev", "noexec"])
    : {
        destination: "/dev/shm",
        type: "tmpfs",
        source: podShmSource,
        options: ["nosuid", "noexec", "nodev", "mode=1777", podShmSize],
      };
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", ...ttyGroup],
    },
    shm,
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", access] },
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: ["nosuid", "noexec", "nodev", "relatime", access],
    },
  ];
}

function podFileMounts({ podFiles, readonlyRootfs }: MountInput): Mount[] {
  const options = ["rprivate", readonlyRootfs ? "ro" : "rw"];
  return [
    bind("/etc/hosts", podFiles.hosts, options),
    bind("/etc/hostname", podFiles.hostname, options),
    bind("/etc/resolv.conf", podFiles.resolvConf, options),
  ];
}

function bind(destination: string, source: string, options: string[]): Mount {
  return { destination, type: "bind", source, options: ["rbind", ...options] };
}

/** Where something may be mounted, normalised. InvalidArgumentError names the field. */
export function mountDestination(path: string | null | undefined, field: string): string {
  const destination = absolutePath(path, field);
  if (destination === "/") throw new InvalidArgumentError(`${field}: nothing can be mounted over the root`);
  if (isWithin(destination, "/proc") && !coverableProcFiles.has(destination)) {
    throw new InvalidArgumentError(`${field}: ${destination} is part of the container's own /proc`);
  }
  return destination;
}

function requestedMount(mount: runtime.v1.IMount, field: string, users: UserNamespace | undefined): Mount {
  const destination = mountDestination(mount.container_path, `${field}.container_path`);
  if (mount.image) return imageVolume(mount, destination, field, users);
  // image_sub_path says nothing here: the kubelet gives it to every subPath mount of a pod that has an image volume, too
  const mappings = mountIdMappings(mount, field);
  if (users !== undefined && mount.propagation === MountPropagation.PROPAGATION_BIDIRECTIONAL) {
    throw new InvalidArgumentError(
      `${field}.propagation: PROPAGATION_BIDIRECTIONAL would let the root of the pod's user namespace mount on the host`,
    );
  }
  const source = absolutePath(mount.host_path, `${field}.host_path`);
  const options = [propagationOption(mount, field), readonlyOption(mount, field), ...additionalOptions(mount, field)];
  return withMappings(bind(destination, source, options), mappings);
}

function withMappings(mount: Mount, mappings: UserNamespace | undefined): Mount {
  return mappings === undefined ? mount : { ...mount, uidMappings: [mappings.uids], gidMappings: [mappings.gids] };
}

/**
 * Read-only by definition; the caller has found the image and put its id into image_ref. Its ids are those of a root file
 * system: of the pod's user namespace, unless the request maps them otherwise.
 */
function imageVolume(
  mount: runtime.v1.IMount,
  destination: string,
  field: string,
  users: UserNamespace | undefined,
): Mount {
  const mappings = mountIdMappings(mount, field) ?? users;
  const imageId = mount.image?.image_ref;
  const subPath = mount.image_sub_path ?? "";
  if (mount.host_path)
    throw new InvalidArgumentError(`${field}.host_path: a mount has an image or a host_path, not both`);
  if (!imageId) throw new InvalidArgumentError(`${field}.image.image: it names no image`);
  if (!mount.readonly) throw new InvalidArgumentError(`${field}.readonly: a mount of an image is always read-only`);
  if (mount.propagation) {
    throw new InvalidArgumentError(`${field}.propagation: a mount of an image needs PROPAGATION_PRIVATE`);
  }
  if (subPath.startsWith("/") || subPath.split("/").includes("..") || subPath.includes("\0")) {
    throw new InvalidArgumentError(
      `${field}.image_sub_path: ${JSON.stringify(subPath)} is not a path that stays in the image`,
    );
  }
  const options = ["rprivate", "ro", "nosuid", "nodev", ...additionalOptions(mount, field)];
  return withMappings(bind(destination, imageVolumeSource({ imageId, subPath }), options), mappings);
}

function propagationOption(mount: runtime.v1.IMount, field: string): string {
  switch (mount.propagation ?? MountPropagation.PROPAGATION_PRIVATE) {
    case MountPropagation.PROPAGATION_PRIVATE:
      return "rprivate";
    case MountPropagation.PROPAGATION_HOST_TO_CONTAINER:
      return "rslave";
    case MountPropagation.PROPAGATION_BIDIRECTIONAL:
      return "rshared";
    default:
      throw new InvalidArgumentError(`${field}.propagation: ${mount.propagation} is no MountPropagation`);
  }
}

function readonlyOption(mount: runtime.v1.IMount, field: string): string {
  if (!mount.recursive_read_only) return mount.readonly ? "ro" : "rw";
  if (!mount.readonly) throw new InvalidArgumentError(`${field}.recursive_read_only: it needs readonly, too`);
  if (mount.propagation) {
    throw new InvalidArgumentError(`${field}.recursive_read_only: it needs propagation PROPAGATION_PRIVATE`);
  }
  return "rro";
}

function additionalOptions(mount: runtime.v1.IMount, field: string): string[] {
  for (const [index, option] of (mount.mount_options ?? []).entries()) {
    if (!extraOptions.has(option)) {
      throw new InvalidArgumentError(`${field}.mount_options[${index}]: ${JSON.stringify(option)} is not supported`);
    }
  }
  return [...(mount.mount_options ?? [])];
}
