import type { Finding } from "../doctor.js";
import type { Machine, ReadText } from "./machine.js";

interface Least {
  name: string;
  least: number;
  consequence: string;
}

/** What Linux starts with is made for a machine with a few programs. */
const leasts: readonly Least[] = [
  {
    name: "fs.inotify.max_user_instances",
    least: 512,
    consequence: 'programs that watch files fail with "too many open files", the kubelet and log collectors first',
  },
  {
    name: "fs.inotify.max_user_watches",
    least: 65_536,
    consequence: 'programs that watch many files fail with "no space left on device"',
  },
  {
    name: "kernel.pid_max",
    least: 65_536,
    consequence: "all containers of the node together run out of process ids: fork fails with EAGAIN",
  },
  {
    name: "fs.file-max",
    least: 500_000,
    consequence: "all programs of the node together run out of open files (ENFILE)",
  },
];

const nearFull = 0.8;

export async function sysctlFindings({ network }: Machine, read: ReadText): Promise<Finding[]> {
  const value = async (name: string) => {
    const text = await read(`proc/sys/${name.replaceAll(".", "/")}`);
    return text === undefined || text === "" ? undefined : Number(text);
  };
  const findings: Finding[] = [];
  for (const { name, least, consequence } of leasts) {
    const now = await value(name);
    if (now === undefined || now >= least) continue;
    findings.push({
      id: "SysctlLow",
      severity: "warning",
      what: `${name} is ${now}`,
      consequence,
      remedy: `Run sysctl -w ${name}=${least}, and write it to /etc/sysctl.d/ for the next boot.`,
    });
  }
  if ((await value("user.max_user_namespaces")) === 0) {
    findings.push({
      id: "UserNamespacesOff",
      severity: "warning",
      what: "user.max_user_namespaces is 0",
      consequence: "pods with hostUsers: false fail to start",
      remedy: "Run sysctl -w user.max_user_namespaces=15000, or leave it when no pod is to have one.",
    });
  }
  const [flows, mostFlows] = [
    await value("net.netfilter.nf_conntrack_count"),
    await value("net.netfilter.nf_conntrack_max"),
  ];
  if (flows !== undefined && mostFlows !== undefined && flows >= mostFlows * nearFull) {
    findings.push({
      id: "ConntrackFull",
      severity: "warning",
      what: `the kernel follows ${flows} connections, of ${mostFlows} that it can`,
      consequence: "when there is no room new connections of all pods are dropped",
      remedy: `Run sysctl -w net.netfilter.nf_conntrack_max=${mostFlows * 2}, or see who makes so many (conntrack -L).`,
    });
  }
  if (network !== "none" && (await value("net.ipv4.conf.all.rp_filter")) === 1) {
    findings.push({
      id: "StrictReversePath",
      severity: "note",
      what: "net.ipv4.conf.all.rp_filter is 1 (strict)",
      consequence: "packets of pods that come by another interface than their answers would leave by are dropped",
      remedy: "Nothing needs to be done on a host with one uplink; else run sysctl -w net.ipv4.conf.all.rp_filter=2.",
    });
  }
  return findings;
}
