/** Something on the machine that no record speaks of. */
export interface Leak {
  kind: "process" | "mount" | "namespace" | "interface" | "address" | "host port" | "cgroup" | "directory" | "layer";
  /** what to look for on the machine: a path, a process id, an interface's name */
  subject: string;
  /** a sentence without its end: what it is, or why it is nobody's */
  what: string;
  /** It is this agent's for certain; else it may be another's that uses the same directory, and only people decide. */
  ours: boolean;
  /** Takes it away; already gone is success. */
  repair(): Promise<void>;
}

/** Which pods and containers there are, and whose the others may be. */
export interface Known {
  pods: ReadonlySet<string>;
  isContainer(id: string): boolean;
  /** the id is of a pod that this agent has made: it has a directory or a monitor below its run directory */
  isOurs(podId: string): boolean;
  /** the id is of a container whose root file system this agent has made */
  isOurContainer(id: string): boolean;
  /** pods of other agents that live now */
  foreign: ReadonlySet<string>;
}

/** What is younger may be about to get its owner, where that is another agent. */
const youngMs = 60_000;

export function isYoung({ mtimeMs }: { mtimeMs: number }): boolean {
  return Date.now() - mtimeMs < youngMs;
}
