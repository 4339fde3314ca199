/** A request, an image and a host for tests of the spec: nothing of the machine that runs them. */
import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import type { ImageDefaults, OciImageConfig } from "../image-config.js";
import type { PodSandboxConfig } from "../pod.js";
import type { SpecHost, SpecInput } from "./build-spec.js";

/** Everything but CAP_SYS_RESOURCE. */
export const hostCapabilities = ((1n << 41n) - 1n) & ~(1n << 24n);

export const host: SpecHost = {
  capabilities: hostCapabilities,
  cgroup: {
    mode: "v1",
    hierarchies: [
      { mountPoint: "/sys/fs/cgroup/cpu", version: 1, controllers: ["cpu"], name: "" },
      { mountPoint: "/sys/fs/cgroup/memory", version: 1, controllers: ["memory"], name: "" },
      { mountPoint: "/sys/fs/cgroup/systemd", version: 1, controllers: [], name: "systemd" },
    ],
  },
  arch: "x64",
  kernelRelease: "6.1.0-18-amd64",
  hostname: "node1",
  oomScoreAdj: -500,
  rlimits: [],
};

export function image(defaults: Partial<ImageDefaults> = {}): OciImageConfig {
  return {
    architecture: "amd64",
    os: "linux",
    config: {
      User: "",
      Env: [],
      Entrypoint: [],
      Cmd: ["/bin/sh"],
      WorkingDir: "",
      Volumes: {},
      Labels: {},
      StopSignal: "",
      ExposedPorts: {},
      ...defaults,
    },
    rootfs: { type: "layers", diff_ids: [] },
    history: [],
  };
}

/** A message as it comes from the wire: numbers as Long, absent messages null. */
export function containerConfig(fields: Record<string, unknown> = {}): ContainerConfig {
  const { ContainerConfig: Message } = runtime.v1;
  return Message.decode(Message.encode(Message.fromObject(fields)).finish());
}

export function podConfig(fields: Record<string, unknown> = {}): PodSandboxConfig {
  const { PodSandboxConfig: Message } = runtime.v1;
  return Message.decode(Message.encode(Message.fromObject({ hostname: "pod1", ...fields })).finish());
}

/** The config of a container with this security context. */
export function withSecurity(context: Record<string, unknown>): ContainerConfig {
  return containerConfig({ linux: { security_context: context } });
}

export function specInput(fields: Partial<SpecInput> = {}): SpecInput {
  return {
    containerId: "c".repeat(64),
    podId: "d".repeat(64),
    config: containerConfig(),
    podConfig: podConfig(),
    image: image(),
    user: { uid: 0, gid: 0, additionalGids: [0], home: "/root", username: "root" },
    host,
    hostFiles: { devices: [], seccompProfile: null, apparmorProfile: null },
    podFiles: {
      resolvConf: "/run/berth/pods/d/resolv.conf",
      hostname: "/run/berth/pods/d/hostname",
      hosts: "/run/berth/pods/d/hosts",
    },
    cgroupPath: "/berth/c",
    ...fields,
  };
}
