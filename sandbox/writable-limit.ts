/** How much a container may write to its root: the container's annotation, the pod's, or what the node is set to. */
import type { ContainerConfig } from "./container.js";
import { InvalidArgumentError } from "./errors.js";
import type { PodSandboxConfig } from "./pod.js";

export const writableLimitAnnotation = "berth.dev/writable-layer-limit";

const factors: Record<string, number> = {
  "": 1,
  ...{ k: 1e3, M: 1e6, G: 1e9, T: 1e12 },
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 },
};

/** Bytes of a whole number with one of Kubernetes's suffixes: "500Mi". Undefined: it is none, or 0. */
export function parseByteQuantity(text: string): number | undefined {
  const [, digits = "", suffix = ""] = /^(\d+)([kMGT]|[KMGT]i)?$/.exec(text) ?? [];
  const bytes = Number(digits) * (factors[suffix] ?? 0);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** @param usual of the node; undefined: there is no limit. @throws InvalidArgumentError that names the annotation */
export function writableLimitOf(
  config: ContainerConfig,
  podConfig: PodSandboxConfig,
  usual: number | undefined,
): number | undefined {
  const asked = config.annotations?.[writableLimitAnnotation] ?? podConfig.annotations?.[writableLimitAnnotation];
  if (asked === undefined) return usual;
  const bytes = parseByteQuantity(asked);
  if (bytes === undefined) {
    throw new InvalidArgumentError(
      `annotation ${writableLimitAnnotation}: "${asked}" is no size, as 1000000 or "500Mi"`,
    );
  }
  // a pod may ask for less than the node gives, not for more
  return Math.min(bytes, usual ?? bytes);
}
