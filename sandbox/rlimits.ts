import type { PosixRlimit } from "./spec/oci.js";

/** The first column of /proc/PID/limits, by the OCI's names of the limits. */
const names: Record<string, string> = {
  RLIMIT_CPU: "Max cpu time",
  RLIMIT_FSIZE: "Max file size",
  RLIMIT_DATA: "Max data size",
  RLIMIT_STACK: "Max stack size",
  RLIMIT_CORE: "Max core file size",
  RLIMIT_RSS: "Max resident set",
  RLIMIT_NPROC: "Max processes",
  RLIMIT_NOFILE: "Max open files",
  RLIMIT_MEMLOCK: "Max locked memory",
  RLIMIT_AS: "Max address space",
  RLIMIT_LOCKS: "Max file locks",
  RLIMIT_SIGPENDING: "Max pending signals",
  RLIMIT_MSGQUEUE: "Max msgqueue size",
  RLIMIT_NICE: "Max nice priority",
  RLIMIT_RTPRIO: "Max realtime priority",
  RLIMIT_RTTIME: "Max realtime timeout",
};

/** RLIMIT_NOFILE ... */
export const rlimitTypes: readonly string[] = Object.keys(names);

export interface ClampOptions {
  /** the agent's /proc/self/limits */
  ownLimits: string;
  /** has CAP_SYS_RESOURCE */
  mayRaise: boolean;
  /** fs.nr_open: nobody gets more open files */
  mostOpenFiles: number;
  /** told of each limit that becomes less than it should be */
  tell(sentence: string): void;
}

/** The limits as far as the agent can give them: without CAP_SYS_RESOURCE no hard limit can be above its own. */
export function clampRlimits(limits: readonly PosixRlimit[], options: ClampOptions): PosixRlimit[] {
  const { ownLimits, mayRaise, mostOpenFiles, tell } = options;
  return limits.map((limit) => {
    const { type, soft, hard } = limit;
    const own = mayRaise ? Number.POSITIVE_INFINITY : hardLimit(ownLimits, names[type] ?? type);
    const most = type === "RLIMIT_NOFILE" ? Math.min(own, mostOpenFiles) : own;
    if (hard <= most) return limit;
    const why = most === own ? "this agent has no CAP_SYS_RESOURCE to raise its own" : "fs.nr_open allows no more";
    tell(`${type} of containers is at most ${most}, not ${hard === 2 ** 64 ? "unlimited" : hard}: ${why}`);
    return { type, soft: Math.min(soft, most), hard: most };
  });
}

function hardLimit(text: string, name: string): number {
  const line = text.split("\n").find((candidate) => candidate.startsWith(name));
  const [, hard] = line?.slice(name.length).trim().split(/\s+/) ?? [];
  return hard === undefined || hard === "unlimited" ? 2 ** 64 : Number(hard);
}
