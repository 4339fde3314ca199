/** Pods and containers of every kind, by chance. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runtime } from "../../../cri-proto/generated/runtime.js";
import type { TestAgent } from "../agent.js";
import type { Random } from "../comparison/random.js";
import { busyboxName, long, NamespaceMode, sh } from "../workload.js";

const { MountPropagation } = runtime.v1;
const propagations = [
  MountPropagation.PROPAGATION_PRIVATE,
  MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  MountPropagation.PROPAGATION_BIDIRECTIONAL,
];

export const handlers = { runc: "/usr/sbin/runc", crun: "/usr/bin/crun" };
const presentHandlers = Object.entries(handlers)
  .filter(([, path]) => existsSync(path))
  .map(([name]) => name);

/** One that comes and goes while containers are made of it. */
export const otherImage = "berth.test/other:1";

export interface PodPlan {
  handler: string;
  config: runtime.v1.IPodSandboxConfig;
}

/** Berth's own: what is wrong in a request it tells by its code, and not by an OCI runtime's words. */
const isOwnLauncher = (handler: string) => handler === "" || handler === "berth";

/** @param slot pods of one slot have one name: attempts go up, or the name comes again after a removal */
export function randomPod(
  random: Random,
  { agent, slot, usersPossible }: { agent: TestAgent; slot: number; usersPossible: boolean },
): PodPlan {
  // two calls for one name at once are for one pod: they mean the same launcher
  const handler = random.pick(slot === 0 && presentHandlers.length > 0 ? presentHandlers : ["", "berth"]);
  const users = isOwnLauncher(handler) && usersPossible && random.chance(0.25);
  const hostNetwork = !users && random.chance(0.2);
  const pid = random.pick([NamespaceMode.POD, NamespaceMode.CONTAINER, NamespaceMode.CONTAINER, NamespaceMode.NODE]);
  const ids = [{ host_id: 400_000 + 65_536 * slot, container_id: 0, length: 65_536 }];
  const config: runtime.v1.IPodSandboxConfig = {
    metadata: { name: `slot-${slot}`, namespace: "churn", uid: `uid-${slot}`, attempt: random.whole(0, 2) },
    hostname: `slot-${slot}`,
    log_directory: join(agent.paths.logs, `slot-${slot}`),
    labels: { slot: `${slot}` },
    linux: {
      ...(random.chance(0.6) && {
        cgroup_parent: `${agent.cgroupRoot}/kubepods/${random.pick(["burstable", "be"])}/p${slot}`,
      }),
      ...(random.chance(0.3) && { sysctls: { "kernel.shm_rmid_forced": "1" } }),
      security_context: {
        privileged: !users && random.chance(0.2),
        namespace_options: {
          network: hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
          pid: users && pid === NamespaceMode.NODE ? NamespaceMode.POD : pid,
          ipc: !users && random.chance(0.1) ? NamespaceMode.NODE : NamespaceMode.POD,
          ...(users && { userns_options: { mode: NamespaceMode.POD, uids: ids, gids: ids } }),
        },
      },
    },
    ...(!hostNetwork &&
      random.chance(0.3) && {
        port_mappings: [{ container_port: 80, host_port: 20_000 + agent.slot.number * 50 + random.whole(0, 5) }],
      }),
  };
  return { handler, config };
}

const programs = [
  { command: ["sleep", "1000"] },
  { command: ["true"] },
  sh("exit 3"),
  sh("sleep 0.1; exit 7"),
  sh("trap '' TERM; sleep 1000 & sleep 1000"),
  sh("trap 'exit 5' TERM; while :; do sleep 0.05; done"),
  sh("while :; do echo line; sleep 0.01; done"),
  sh("(setsid sleep 900 &); (sleep 900 &); sleep 800"),
  sh("while read -r line; do echo got $line; done; sleep 1000"),
  sh("kill -SEGV $$; sleep 1000"),
  sh("mkdir -p /data/m && mount -t tmpfs none /data/m; sleep 1000"),
];

/** @param siblings containers of the pod, whose processes may be shared */
export function randomContainer(
  random: Random,
  pod: PodPlan,
  { volume, siblings }: { volume: string; siblings: readonly string[] },
): runtime.v1.IContainerConfig {
  const name = `c${random.whole(0, 3)}`;
  const { namespace_options } = pod.config.linux?.security_context ?? {};
  const hasUsers = namespace_options?.userns_options !== undefined;
  // a target that ends while an OCI runtime joins it is told in the runtime's words alone
  const hasTarget = isOwnLauncher(pod.handler) && siblings.length > 0 && random.chance(0.1);
  const target = hasTarget ? random.pick(siblings) : undefined;
  const podPid = namespace_options?.pid ?? NamespaceMode.POD;
  const tty = random.chance(0.15);
  const stdin = random.chance(0.3);
  const privileged = (pod.config.linux?.security_context?.privileged ?? false) && random.chance(0.5);
  return {
    metadata: { name, attempt: random.whole(0, 2) },
    image: { image: random.chance(0.15) ? otherImage : busyboxName },
    ...(random.chance(0.9) && { log_path: `${name}.log` }),
    ...(isOwnLauncher(pod.handler) && random.chance(0.05) ? { command: ["/no/such/program"] } : random.pick(programs)),
    tty,
    stdin,
    stdin_once: stdin && random.chance(0.5),
    ...(random.chance(0.2) && { annotations: { hooks: random.pick(["all", "createRuntime", "poststop"]) } }),
    mounts: randomMounts(random, { volume, hasUsers, privileged }),
    linux: {
      resources: {
        ...(random.chance(0.5) && { cpu_shares: long(random.pick([2, 100, 1024])) }),
        ...(random.chance(0.3) && { memory_limit_in_bytes: long(random.pick([16, 64, 256]) << 20) }),
        oom_score_adj: long(random.pick([0, 500, 1000])),
      },
      security_context: {
        privileged,
        ...(random.chance(0.2) && { readonly_rootfs: true }),
        ...(random.chance(0.2) && { run_as_user: { value: long(1000) } }),
        namespace_options:
          target === undefined
            ? { ...namespace_options, pid: random.chance(0.8) ? podPid : NamespaceMode.CONTAINER }
            : { ...namespace_options, pid: NamespaceMode.TARGET, target_id: target },
      },
    },
  };
}

function randomMounts(
  random: Random,
  { volume, hasUsers, privileged }: { volume: string; hasUsers: boolean; privileged: boolean },
): runtime.v1.IMount[] {
  const mounts: runtime.v1.IMount[] = [];
  if (random.chance(0.2)) {
    mounts.push({
      container_path: "/image",
      readonly: true,
      image: { image: random.chance(0.15) ? otherImage : busyboxName },
      ...(random.chance(0.5) && { image_sub_path: "bin" }),
    });
  }
  if (random.chance(0.5)) {
    const propagation = hasUsers
      ? MountPropagation.PROPAGATION_PRIVATE
      : random.pick(privileged ? propagations : propagations.slice(0, 2));
    mounts.push({ container_path: "/data", host_path: volume, readonly: random.chance(0.5), propagation });
  }
  return mounts;
}
