/** What the administrator's modules (agent/spec-hooks) may change of a container before it is made. */
import type { ContainerConfig } from "./container.js";
import type { PodSandboxConfig } from "./pod.js";
import type { OciSpec } from "./spec/oci.js";

/** Whose spec it is. */
export interface SpecSubject {
  podId: string;
  containerId: string;
  namespace: string;
  pod: string;
  container: string;
  image: string;
  podLabels: Readonly<Record<string, string>>;
  podAnnotations: Readonly<Record<string, string>>;
  containerAnnotations: Readonly<Record<string, string>>;
}

/** @throws BerthError when a module fails, or changes what it may not */
export type AdjustSpec = (spec: OciSpec, subject: SpecSubject) => Promise<OciSpec>;

/** In the spec of a container that was adjusted: JSON, a text for each change. */
export const adjustedAnnotation = "berth.adjusted";

export function specSubject(
  ids: Pick<SpecSubject, "podId" | "containerId">,
  config: ContainerConfig,
  podConfig: PodSandboxConfig,
): SpecSubject {
  return {
    ...ids,
    namespace: podConfig.metadata?.namespace ?? "",
    pod: podConfig.metadata?.name ?? "",
    container: config.metadata?.name ?? "",
    image: config.image?.image ?? "",
    podLabels: { ...podConfig.labels },
    podAnnotations: { ...podConfig.annotations },
    containerAnnotations: { ...config.annotations },
  };
}
