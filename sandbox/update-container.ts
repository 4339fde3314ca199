import Long from "long";
import { runtime } from "../cri-proto/generated/runtime.js";
import type { Container } from "./container.js";
import { FailedPreconditionError } from "./errors.js";
import { toCallError } from "./monitor-client.js";
import type { SandboxNode } from "./node.js";
import { isForeign } from "./oci-runtimes.js";
import { changeOomScores } from "./oom-scores.js";
import { controllersForRuntimes } from "./runtime-bundle.js";
import type { LinuxResources } from "./spec/oci.js";
import { allowedOomScoreAdj, changedResources, linuxResources, oomScoreAdj } from "./spec/resources.js";
import { runtimeResources } from "./spec/runtime-config.js";
import { specHost } from "./spec-host.js";
import { update } from "./store.js";

type Resources = runtime.v1.ILinuxContainerResources;

/**
 * Changes the limits of a container that is created or running. What the request leaves out stays as it is; a value that
 * the kernel refuses is an InvalidArgumentError that names it, a memory limit below what is in use a
 * FailedPreconditionError; nothing is changed then. An oom_score_adj is given to the processes that have the old one.
 */
export function updateContainer(node: SandboxNode, container: Container, resources: Resources): Promise<void> {
  const { id } = container.record;
  return node.serial.run(id, async () => {
    const { podId, phase, spec, cgroupPath } = container.record;
    if (phase === "exited" || spec === null) throw new FailedPreconditionError(`container ${id} is ${phase}`);
    if (isForeign(node, podId) && phase === "created" && container.pid === 0) {
      throw new FailedPreconditionError(`container ${id} is not running: its program cannot be started`);
    }
    const askedScore = oomScoreAdj(resources, "linux");
    const old = container.config.linux?.resources ?? {};
    const asked = completed(resources, old);
    const changed = linuxResources(asked, { field: "linux", cgroupMode: node.cgroups.mode });
    await node.cgroups.update(cgroupPath, changed);
    // it would write its own old values at its next command otherwise
    if (isForeign(node, podId)) await tellRuntime(node, container, changed);
    const scoreBefore = spec.process.oomScoreAdj ?? 0;
    const score = askedScore === 0 ? scoreBefore : allowedOomScoreAdj(askedScore, specHost(node));
    await changeOomScores(() => node.cgroups.processes(cgroupPath), scoreBefore, score);
    container.config.linux = { ...container.config.linux, resources: mergeResources(old, asked) };
    const { ContainerConfig: Message } = runtime.v1;
    update(node.store.containers, container, {
      config: Message.toObject(Message.fromObject(container.config), { longs: String, bytes: String }),
      spec: {
        ...spec,
        process: askedScore === 0 ? spec.process : { ...spec.process, oomScoreAdj: score },
        linux: { ...spec.linux, resources: changedResources(spec.linux.resources, changed) },
      },
    });
  });
}

async function tellRuntime(node: SandboxNode, { record }: Container, changed: LinuxResources): Promise<void> {
  const told = runtimeResources(changed, controllersForRuntimes(node));
  try {
    await node.monitors.get(record.podId).updateContainer(record.id, JSON.stringify(told));
  } catch (error) {
    throw toCallError(error, `container ${record.id} could not be updated`);
  }
}

/** A swap limit counts memory, too: without a new memory limit it is meant with the one in force. */
function completed(asked: Resources, old: Resources): Resources {
  const isZero = (value: Long | number | null | undefined) => Number(value?.toString() ?? 0) === 0;
  if (isZero(asked.memory_swap_limit_in_bytes) || !isZero(asked.memory_limit_in_bytes)) return asked;
  return { ...asked, memory_limit_in_bytes: old.memory_limit_in_bytes ?? Long.ZERO };
}

/** What ContainerStatus reports afterwards: the old values with those of the request over them. */
function mergeResources(old: Resources, asked: Resources): Resources {
  const { LinuxContainerResources: Message } = runtime.v1;
  const options = { longs: String, arrays: false, objects: false, defaults: false } as const;
  const said = Object.entries(Message.toObject(Message.fromObject(asked), options)).filter(
    // on the wire 0 and "" are not said; the "0" of a cpuset is its first CPU or node
    ([field, value]) => value !== "" && (value !== "0" || field.startsWith("cpuset_")),
  );
  return Message.fromObject({ ...Message.toObject(Message.fromObject(old), options), ...Object.fromEntries(said) });
}
