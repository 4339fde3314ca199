import type { runtime } from "../../../cri-proto/generated/runtime.js";
import type { OciSpec } from "../../../sandbox/spec/oci.js";

/** One isolation or limit of a container. */
export interface Fact {
  what: string;
  /** the field that asked for it, or whose default it is */
  from: string;
  /** the system call, or the file, that sets it */
  by: string;
}

export interface Section {
  title: string;
  facts: Fact[];
}

/** What is told of: the requests as the agent got them, and the OCI spec that it made of them. */
export interface Subject {
  spec: OciSpec;
  config: runtime.v1.IContainerConfig;
  podConfig: runtime.v1.IPodSandboxConfig;
}

export function fact(what: string, from: string, by: string): Fact {
  return { what, from, by };
}

export const byDefault = "default";
