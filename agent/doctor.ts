/** What this host has and lacks: found once at start, shown by `berth doctor` and by Status. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { KernelFeatures, Route } from "../native/binding.js";
import type { NetworkStatus } from "../sandbox/network/provider.js";
import type { OciRuntime } from "../sandbox/oci-runtimes.js";
import type { StorageDriverName } from "../sandbox/rootfs/drivers/driver.js";
import { builtinNetworkFindings, networkStatusFindings } from "./doctor-network.js";

/** The CRI's two conditions that a runtime must tell. */
export type Condition = "RuntimeReady" | "NetworkReady";

export interface Finding {
  /** CamelCase, stable: the condition's reason */
  id: string;
  severity: "error" | "warning" | "note";
  /** what is so; no period at the end */
  what: string;
  /** what follows from it for pods; no period at the end */
  consequence: string;
  /** a sentence: what to do */
  remedy: string;
  /** the condition that is false because of it */
  breaks?: Condition;
}

export interface Host {
  /** where /proc is looked for: "/", or a directory that a test has made */
  root: string;
  cgroups: { mode: "v1" | "hybrid" | "v2"; missingControllers: readonly string[] };
  features: KernelFeatures;
  /** OCI runtimes of the configuration, of a running agent */
  runtimes?: readonly Pick<OciRuntime, "name" | "path" | "problem">[];
  /** why the default AppArmor profile cannot be given, of a running agent; empty: it can, or there is no AppArmor */
  apparmorProblem?: string;
  /** why containers get no SELinux label of themselves, of a running agent; empty: they do, or there is no SELinux */
  selinuxProblem?: string;
  network: "builtin" | "cni" | "none";
  storageDriver: StorageDriverName;
  /** asks the kernel for its nftables tables; rejects when it has none */
  probeNftables: () => Promise<unknown>;
  /** the built-in network's, as the settings or the kubelet have them */
  bridge: string;
  subnets: readonly string[];
  listRoutes: () => Promise<Route[]>;
  /** the chains of other programs that drop what is forwarded, unless a rule accepts it: "ip filter FORWARD" */
  forwardDrops: () => Promise<string[]>;
  /** of a running agent */
  networkStatus?: NetworkStatus;
  /** what is wrong with the directories and cgroup mounts of a running agent */
  places?: () => Promise<Finding[]>;
}

/** All findings, the gravest first. */
export async function examineHost(host: Host): Promise<Finding[]> {
  const proc = (path: string) => readTrimmed(join(host.root, "proc", path));
  const findings = [
    ...((await host.places?.()) ?? []),
    ...controllerFindings(host.cgroups),
    ...featureFindings(host.features),
    ...(host.storageDriver === "overlay" ? overlayFindings(await proc("filesystems")) : []),
    ...swapFindings(await proc("swaps")),
    ...(host.network === "builtin" ? await builtinNetworkFindings(host, proc) : []),
    ...networkStatusFindings(host.networkStatus),
    ...runtimeFindings(host.runtimes ?? []),
    ...apparmorFindings(host.apparmorProblem ?? ""),
    ...selinuxFindings(host.selinuxProblem ?? ""),
  ];
  return gravestFirst(findings);
}

/** In place. */
export function gravestFirst(findings: Finding[]): Finding[] {
  const order = { error: 0, warning: 1, note: 2 };
  return findings.sort((one, other) => order[one.severity] - order[other.severity]);
}

function runtimeFindings(runtimes: NonNullable<Host["runtimes"]>): Finding[] {
  return runtimes
    .filter(({ problem }) => problem !== "")
    .map(({ name, path, problem }) => ({
      id: "OciRuntimeMissing",
      severity: "warning",
      what: `the OCI runtime ${name} cannot be used: ${problem}`,
      consequence: `pods with a RuntimeClass of the handler "${name}" cannot be started`,
      remedy: `Install it as ${path}, or name its place in config.toml, and start the agent again.`,
    }));
}

function apparmorFindings(problem: string): Finding[] {
  if (problem === "") return [];
  return [
    {
      id: "ApparmorDefaultMissing",
      severity: "warning",
      what: `the kernel has AppArmor, but ${problem}`,
      consequence:
        "containers that name no AppArmor profile run without one, and those that ask for RuntimeDefault are refused",
      remedy: "Install Debian's package apparmor (or see to that message), and start the agent again.",
    },
  ];
}

function selinuxFindings(problem: string): Finding[] {
  if (problem === "") return [];
  return [
    {
      id: "SelinuxDefaultMissing",
      severity: "warning",
      what: `the kernel has SELinux, but ${problem}`,
      consequence:
        "containers that name no SELinux options run with the agent's own label, unseparated from each other",
      remedy: "Install a policy with a domain for containers, and start the agent again; or give pods seLinuxOptions.",
    },
  ];
}

/** Without these a limit of a pod would silently not hold. */
const neededControllers = ["cpu", "memory"];

function controllerFindings({ mode, missingControllers }: Host["cgroups"]): Finding[] {
  const findings: Finding[] = missingControllers.map((name) => {
    const needed = neededControllers.includes(name);
    return {
      id: "CgroupControllerMissing",
      severity: needed ? "error" : "warning",
      what: `the cgroup controller "${name}" is missing`,
      consequence: `${limitsOf[name] ?? "its limits"} cannot be set, and its statistics are missing`,
      remedy:
        mode === "v2"
          ? `Build a kernel that has it, or write +${name} to /sys/fs/cgroup/cgroup.subtree_control.`
          : `Mount it at /sys/fs/cgroup/${name}, and see that the kernel's command line does not disable it.`,
      ...(needed && { breaks: "RuntimeReady" as const }),
    };
  });
  if (mode !== "v2") {
    findings.push({
      id: "CgroupV1",
      severity: "warning",
      what: mode === "v1" ? "cgroups are version 1" : "cgroup controllers are on version 1, beside a cgroup2 mount",
      consequence: "a kubelet from 1.35 on refuses to start",
      remedy:
        "Set failCgroupV1: false in the kubelet's configuration, or boot with systemd.unified_cgroup_hierarchy=1.",
    });
  }
  if (mode === "v1") {
    findings.push({
      id: "CgroupKillMissing",
      severity: "warning",
      what: "there is no cgroup2 mount",
      consequence:
        "the processes of an exec that has timed out are looked for one by one, and one that forks fast can escape",
      remedy: "Mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified.",
    });
  }
  return findings;
}

const limitsOf: Record<string, string> = {
  cpu: "CPU limits and shares",
  cpuacct: "CPU accounting",
  cpuset: "CPU pinning",
  devices: "device access",
  hugetlb: "limits on huge pages",
  memory: "memory limits",
  pids: "limits on the number of processes",
};

const capSysAdmin = 21n;
const capSysResource = 24n;

function featureFindings(features: KernelFeatures): Finding[] {
  const findings: Finding[] = [];
  const has = (capability: bigint) => ((features.capabilities >> capability) & 1n) === 1n;
  if (!has(capSysAdmin)) {
    findings.push({
      id: "NotPrivileged",
      severity: "error",
      what: "the agent lacks CAP_SYS_ADMIN",
      consequence: "no pod can be started",
      remedy: "Run it as root.",
      breaks: "RuntimeReady",
    });
  }
  if (!has(capSysResource)) {
    findings.push({
      id: "NoSysResource",
      severity: "warning",
      what: "the agent lacks CAP_SYS_RESOURCE",
      consequence: "hard rlimits cannot be raised and oom_score_adj cannot be lowered: both stay at what is allowed",
      remedy: "Give the agent the capability where that matters.",
    });
  }
  if (!features.mountSetattr) {
    findings.push({
      id: "MountSetattrMissing",
      severity: "error",
      what: `Linux ${features.release} has no mount_setattr with AT_RECURSIVE`,
      consequence: "root file systems and volumes cannot be attached",
      remedy: "Use Linux 6.1 or newer.",
      breaks: "RuntimeReady",
    });
  }
  if (!features.seccomp) {
    findings.push({
      id: "SeccompMissing",
      severity: "warning",
      what: "the kernel has no seccomp filters",
      consequence: "containers that ask for a seccomp profile, the default one included, do not start",
      remedy: "Use a kernel with CONFIG_SECCOMP_FILTER.",
    });
  }
  if (!features.overlayLowerdirPlus) {
    findings.push({
      id: "OverlayByScratchNamespace",
      severity: "note",
      what: `overlay of Linux ${features.release} takes its layers as one short string only`,
      consequence: "root file systems are put together in a mount namespace of the agent's own, a little slower",
      remedy: "Nothing needs to be done; Linux 6.8 has the newer interface.",
    });
  }
  return findings;
}

function overlayFindings(filesystems: string | undefined): Finding[] {
  // a kernel without the module loaded does not list it, and loads it at the first mount
  if (filesystems === undefined || /\boverlay$/m.test(filesystems)) return [];
  return [
    {
      id: "OverlayNotLoaded",
      severity: "warning",
      what: "/proc/filesystems does not list overlay",
      consequence: "no container can be created unless the kernel loads the module by itself",
      remedy: "Run modprobe overlay, and name it in /etc/modules-load.d/.",
    },
  ];
}

function swapFindings(swaps: string | undefined): Finding[] {
  if (swaps === undefined || swaps.split("\n").length < 2) return [];
  return [
    {
      id: "SwapOn",
      severity: "note",
      what: "swap is on",
      consequence: "a kubelet refuses to start unless failSwapOn is false in its configuration",
      remedy: "Set failSwapOn: false (and memorySwap.swapBehavior), or run swapoff -a.",
    },
  ];
}

/** Undefined: not there. */
async function readTrimmed(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
