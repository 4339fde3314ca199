/** A container's spec as a bundle's config.json: what Berth resolves by itself is said in the OCI's own words. */
import { parseImageVolumeSource } from "./image-volumes.js";
import type { LinuxNamespace, Mount, OciSpec } from "./oci.js";
import { ociJson } from "./oci-json.js";

/** By it a bundle is known as one of ours. */
export const bundleAnnotation = "berth.bundle";

export interface BundlePlace {
  /** the pod's network namespace; empty: the host's */
  networkNamespace: string;
  /** false: the pod has the host's */
  ownIpc: boolean;
  ownUts: boolean;
  hostname: string;
  /** sysctls that belong to namespaces that are new here */
  sysctl: Record<string, string>;
  cgroupsPath: string;
}

export interface BundleSpec {
  spec: OciSpec;
  /** image volumes, in order; each is to be mounted at its path in the bundle */
  volumes: { path: string; imageId: string; subPath: string }[];
}

/**
 * The spec for a foreign OCI runtime: the pod's namespaces by path or (IPC, UTS) as new ones, a cgroup of its own, image
 * volumes as binds of what is mounted at `<directory>/volumes/<n>`.
 */
export function bundleSpec(spec: OciSpec, directory: string, place: BundlePlace): BundleSpec {
  const volumes: BundleSpec["volumes"] = [];
  const mounts = spec.mounts.map((mount): Mount => {
    const image = parseImageVolumeSource(mount.source);
    if (image === null) return mount;
    const path = `${directory}/volumes/${volumes.length}`;
    volumes.push({ path, ...image });
    return { ...mount, source: path };
  });
  const namespaces: LinuxNamespace[] = [
    ...spec.linux.namespaces,
    ...(place.networkNamespace === "" ? [] : [{ type: "network" as const, path: place.networkNamespace }]),
    ...(place.ownIpc ? [{ type: "ipc" as const }] : []),
    ...(place.ownUts ? [{ type: "uts" as const }] : []),
  ];
  // one that shares its pod's processes has its own here
  if (!namespaces.some(({ type }) => type === "pid")) namespaces.push({ type: "pid" });
  return {
    volumes,
    spec: {
      ...spec,
      ...(place.ownUts && place.hostname !== "" && { hostname: place.hostname }),
      root: { ...spec.root, path: "rootfs" },
      mounts,
      annotations: { ...spec.annotations, [bundleAnnotation]: "1" },
      linux: {
        ...spec.linux,
        namespaces,
        cgroupsPath: place.cgroupsPath,
        ...(Object.keys(place.sysctl).length > 0 && { sysctl: { ...spec.linux.sysctl, ...place.sysctl } }),
      },
    },
  };
}

/** The content of config.json. */
export function specToJson(spec: OciSpec): string {
  return ociJson(spec, 2);
}
