/** A spec as an OCI runtime's config.json: what Berth says in its own way is said here as every runtime understands it. */
import type { PidSharing } from "./namespaces.js";
import type { LinuxNamespace, LinuxResources, Mount, OciSpec, Process } from "./oci.js";
import { ociJson } from "./oci-json.js";

/** Understood by every runtime in use. */
const ociVersion = "1.0.2";

export interface RuntimeConfigOptions {
  /** of each mount that does not come from the runtime itself: where its source is to be found */
  sources: ReadonlyMap<Mount, string>;
  sharing: PidSharing;
  /** a path that is the shared PID namespace, where there is one */
  pidNamespace: string;
  /** the pod's own namespaces, in which the runtime is started */
  podNamespaces: readonly ("network" | "ipc" | "uts")[];
  /** in the hierarchies that the runtime sees */
  controllers: ReadonlySet<string>;
}

/** The content of config.json. */
export function runtimeConfig(spec: OciSpec, options: RuntimeConfigOptions): string {
  const { linux } = spec;
  const mounts = spec.mounts.map((mount) => {
    const source = options.sources.get(mount);
    return source === undefined ? mount : bindOf(mount, source);
  });
  const propagation = rootPropagation(mounts);
  return ociJson({
    ...spec,
    ociVersion,
    mounts,
    linux: {
      ...linux,
      resources: runtimeResources(linux.resources, options.controllers),
      namespaces: [...linux.namespaces, ...joined(options)],
      ...(propagation !== undefined && { rootfsPropagation: propagation }),
    },
  });
}

/**
 * The resources of config.json and of a runtime's `update`. The kubelet limits every page size of the host, most to
 * nothing; where there is no controller for that, runtimes refuse even nothing, so it is left unsaid.
 */
export function runtimeResources(resources: LinuxResources, controllers: ReadonlySet<string>): LinuxResources {
  if (controllers.has("hugetlb")) return resources;
  const { hugepageLimits: _, ...others } = resources;
  return others;
}

/** The argument of a runtime's \`exec --process\`. */
export function runtimeProcess(process: Process): string {
  return ociJson(process);
}

/**
 * The source has its attributes already, those of mounts below it, too. What every runtime knows is said again, for its
 * own records; what one might not know is left out.
 */
function bindOf({ destination, options }: Mount, source: string): Mount {
  const readonly = options.includes("ro") || options.includes("rro");
  const propagation = ["rshared", "rslave"].find((option) => options.includes(option)) ?? "rprivate";
  const flags = options.filter((option) => ["nosuid", "nodev", "noexec"].includes(option));
  return { destination, type: "bind", source, options: ["rbind", propagation, readonly ? "ro" : "rw", ...flags] };
}

/** Propagation passes through the container's root only when that has it, too. */
export function rootPropagation(mounts: readonly Mount[]): string | undefined {
  return ["rshared", "rslave"].find((option) => mounts.some(({ options }) => options.includes(option)));
}

function joined({ sharing, pidNamespace, podNamespaces }: RuntimeConfigOptions): LinuxNamespace[] {
  const namespaces: LinuxNamespace[] = podNamespaces.map((type) => ({ type, path: `/proc/self/ns/${names[type]}` }));
  if (sharing === "pod" || sharing === "target") namespaces.push({ type: "pid", path: pidNamespace });
  return namespaces;
}

const names = { network: "net", ipc: "ipc", uts: "uts" } as const;
