/** A container's spec as a bundle's config.json: what Berth resolves by itself is said in the OCI's own words. */
import { parseImageVolumeSource } from "./image-volumes.js";
import type { LinuxNamespace, Mount, OciSpec } from "./oci.js";
import { ociJson } from "./oci-json.js";
import { rootPropagation, runtimeResources } from "./runtime-config.js";

/** By it a bundle is known as one of ours. */
export const bundleAnnotation = "berth.bundle";

export interface BundlePlace {
  /** those besides the container's own: the pod's by their paths, or new ones; what is not said is the host's */
  namespaces: LinuxNamespace[];
  /** of a UTS namespace that is new here */
  hostname: string;
  /** sysctls that belong to namespaces that are new here */
  sysctl: Record<string, string>;
  cgroupsPath: string;
  /** of the hierarchies where its cgroup will be */
  controllers: ReadonlySet<string>;
}

export interface BundleSpec {
  spec: OciSpec;
  /** image volumes, in order; each is to be mounted at its path in the bundle */
  volumes: { path: string; imageId: string; subPath: string }[];
}

/**
 * The spec for a foreign OCI runtime: the pod's namespaces, a cgroup of its own, image volumes as binds of what is mounted
 * at `<directory>/volumes/<n>`.
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
  const propagation = rootPropagation(mounts);
  return {
    volumes,
    spec: {
      ...spec,
      ...(place.hostname !== "" && { hostname: place.hostname }),
      root: { ...spec.root, path: "rootfs" },
      mounts,
      annotations: { ...spec.annotations, [bundleAnnotation]: "1" },
      linux: {
        ...spec.linux,
        resources: runtimeResources(spec.linux.resources, place.controllers),
        namespaces: [...spec.linux.namespaces, ...place.namespaces],
        ...(propagation !== undefined && { rootfsPropagation: propagation }),
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
