/** Which processes of a pod share which namespaces: read from /proc, where each is a link to a number (namespaces(7)). */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** As /proc/PID/ns names them, from the one that owns the others to the one that only counts. */
export const kinds = ["user", "net", "ipc", "uts", "pid", "mnt", "cgroup", "time"] as const;
export type Kind = (typeof kinds)[number];

/** Inode numbers; a kind that the kernel does not have, or that may not be read, is absent. */
export type Inodes = Partial<Record<Kind, string>>;

/** Whose a namespace is: the host's, shared by processes of the pod, another pod's, or one process's alone. */
export type Owner = "host" | "pod" | "own" | "another pod";

export interface ProcessNamespaces {
  /** a container's name, "monitor", or the command of what else the monitor has started: an exec, the pod's init */
  name: string;
  kind: "monitor" | "container" | "other";
  pid: number;
  namespaces: Partial<Record<Kind, { inode: string; owner: Owner }>>;
}

export interface PodNamespaces {
  id: string;
  name: string;
  namespace: string;
  processes: ProcessNamespaces[];
}

/** What is known of a pod before its namespaces are looked at. */
export interface PodProcesses {
  id: string;
  name: string;
  namespace: string;
  processes: (Pick<ProcessNamespaces, "name" | "kind" | "pid"> & { inodes: Inodes })[];
}

/** Tells whose each namespace is. `host`: those of a process of the host's. */
export function mapNamespaces(pods: readonly PodProcesses[], host: Inodes): PodNamespaces[] {
  return pods.map((pod) => ({
    ...pod,
    processes: pod.processes.map(({ inodes, ...process }) => {
      const named = kinds.flatMap((kind) => {
        const inode = inodes[kind];
        return inode === undefined ? [] : [[kind, { inode, owner: ownerOf(kind, inode) }] as const];
      });
      return { ...process, namespaces: Object.fromEntries(named) };

      function ownerOf(kind: Kind, inode: string): Owner {
        if (inode === host[kind]) return "host";
        const has = (other: { inodes: Inodes }) => other.inodes[kind] === inode;
        if (pod.processes.filter(has).length > 1) return "pod";
        return pods.some((other) => other !== pod && other.processes.some(has)) ? "another pod" : "own";
      }
    }),
  }));
}

/** None for a process that is gone. An Error: nobody but root may look. */
export function readInodes(pid: number): Inodes | undefined {
  const inodes: Inodes = {};
  for (const kind of kinds) {
    try {
      inodes[kind] = readlinkSync(`/proc/${pid}/ns/${kind}`).replace(/\D/g, "");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EACCES" || code === "EPERM") throw new Error("only root may see the namespaces of others");
      // ENOENT: of the process, or of a kind that this kernel does not know
    }
  }
  return Object.keys(inodes).length === 0 ? undefined : inodes;
}

/** The process's children, with the name of the program that each runs. */
export function readChildren(pid: number): { pid: number; command: string }[] {
  const tasks = unlessGone(() => readdirSync(`/proc/${pid}/task`)) ?? [];
  const children = tasks.flatMap((task) =>
    (unlessGone(() => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8")) ?? "").split(" ").filter(Boolean),
  );
  return children.flatMap((child) => {
    const command = unlessGone(() => readFileSync(`/proc/${child}/comm`, "utf8").trim());
    return command === undefined ? [] : [{ pid: Number(child), command }];
  });
}

/** Processes end between two looks. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
