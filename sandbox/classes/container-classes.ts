import type { ContainerConfig } from "../container.js";
import type { SandboxNode } from "../node.js";
import type { PodSandboxConfig } from "../pod.js";
import type { LinuxBlockIo, LinuxIntelRdt } from "../spec/oci.js";
import { chosenClass, findClass } from "./annotations.js";
import { toBlockIo } from "./blockio.js";

type Node = Pick<SandboxNode, "blockioClasses" | "rdtClasses" | "rdt" | "observer">;

/** What the classes of a container's annotations mean. FailedPreconditionError names a class that cannot be given. */
export async function containerClasses(
  node: Node,
  config: ContainerConfig,
  podConfig: PodSandboxConfig,
): Promise<{ blockIO?: LinuxBlockIo; intelRdt?: LinuxIntelRdt }> {
  const blockio = chosenClass("blockio", config, podConfig);
  const rdt = chosenClass("rdt", config, podConfig);
  return {
    ...(blockio !== undefined && { blockIO: await blockIoOf(node, blockio) }),
    ...(rdt !== undefined && { intelRdt: intelRdtOf(node, rdt) }),
  };
}

type Chosen = Parameters<typeof findClass>[1];

function blockIoOf({ blockioClasses, observer }: Node, chosen: Chosen): Promise<LinuxBlockIo> {
  return toBlockIo(findClass("blockio", chosen, blockioClasses), (pattern) =>
    observer.limitation(
      `blockio ${chosen.name} ${pattern}`,
      `the block-IO class ${chosen.name} does nothing for ${pattern}: there is no such block device`,
    ),
  );
}

function intelRdtOf({ rdtClasses, rdt }: Node, chosen: Chosen): LinuxIntelRdt {
  rdt.ensure(chosen.name, findClass("rdt", chosen, rdtClasses));
  return { closID: chosen.name };
}
