/** Classes of resources that pods choose by annotation, with the names that containerd and CRI-O take them by. */
import type { ContainerConfig } from "../container.js";
import { FailedPreconditionError } from "../errors.js";
import type { PodSandboxConfig } from "../pod.js";

export type ClassKind = "blockio" | "rdt";

export interface ChosenClass {
  name: string;
  /** the annotation that says so, for errors */
  annotation: string;
}

/** The container's own annotation, then the pod's for this container, then the pod's. Undefined: no class. */
export function chosenClass(
  kind: ClassKind,
  config: ContainerConfig,
  podConfig: PodSandboxConfig,
): ChosenClass | undefined {
  const ofContainer = `io.kubernetes.cri.${kind}-class`;
  const ofPod = `${kind}.resources.beta.kubernetes.io`;
  const places = [
    [config.annotations, ofContainer],
    [podConfig.annotations, `${ofPod}/container.${config.metadata?.name ?? ""}`],
    [podConfig.annotations, `${ofPod}/pod`],
  ] as const;
  for (const [annotations, annotation] of places) {
    const name = annotations?.[annotation];
    if (name) return { name, annotation };
  }
  return undefined;
}

/** The class as it is configured; null: no class of the kind is, and pods that ask for one are refused. */
export function findClass<Class>(
  kind: ClassKind,
  { name, annotation }: ChosenClass,
  classes: ReadonlyMap<string, Class> | null,
): Class {
  const field = `annotation ${annotation}: the class ${JSON.stringify(name)}`;
  if (classes === null) {
    throw new FailedPreconditionError(`${field} cannot be given: config.toml has no table [${kind}]`);
  }
  const found = classes.get(name);
  if (found !== undefined) return found;
  const known = [...classes.keys()].join(", ");
  throw new FailedPreconditionError(`${field} is none of those in config.toml's table [${kind}] (${known})`);
}
