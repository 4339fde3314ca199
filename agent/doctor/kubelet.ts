import type { Finding } from "../doctor.js";
import type { Machine, ReadText } from "./machine.js";

const path = "var/lib/kubelet/config.yaml";

interface KubeletConfiguration {
  cgroupDriver?: unknown;
  containerRuntimeEndpoint?: unknown;
  failCgroupV1?: unknown;
  failSwapOn?: unknown;
}

/** Where kubeadm writes it. Without one nothing is said: a kubelet's flags are its own. */
export async function kubeletFindings({ config, cgroupMode }: Machine, read: ReadText): Promise<Finding[]> {
  const text = await read(path);
  if (text === undefined) return [];
  const kubelet = await parsed(text);
  if (kubelet === undefined) {
    return [
      {
        id: "KubeletConfigurationBroken",
        severity: "warning",
        what: `/${path} is no YAML`,
        consequence: "the kubelet does not start",
        remedy: "Mend it, or make it anew (kubeadm init phase kubelet-start).",
      },
    ];
  }
  const findings: Finding[] = [];
  const { cgroupDriver, containerRuntimeEndpoint } = kubelet;
  if (typeof cgroupDriver === "string" && cgroupDriver !== config.cgroupDriver) {
    findings.push({
      id: "CgroupDriverMismatch",
      severity: "warning",
      what: `the kubelet's cgroupDriver is ${cgroupDriver} (/${path}), and cgroup-driver is ${config.cgroupDriver}`,
      consequence:
        "a kubelet from 1.31 on asks the runtime and takes its answer; an older one, or one with the feature gate " +
        "KubeletCgroupDriverFromCRI off, starts no pod",
      remedy: `Write cgroup-driver = "${cgroupDriver}" to config.toml before any pod is made, or change the kubelet's.`,
    });
  }
  if (typeof containerRuntimeEndpoint === "string" && containerRuntimeEndpoint !== "") {
    const own = `unix://${config.listen}`;
    if (containerRuntimeEndpoint.replace(/^(?:unix:\/\/)?/, "unix://") !== own) {
      findings.push({
        id: "KubeletElsewhere",
        severity: "note",
        what: `the kubelet's containerRuntimeEndpoint is ${containerRuntimeEndpoint} (/${path})`,
        consequence: "its pods are made by that runtime, not by this one",
        remedy: `Write ${own} there if they should be made here: drain the node first.`,
      });
    }
  }
  if (cgroupMode !== "v2" && kubelet.failCgroupV1 === true) {
    findings.push({
      id: "KubeletRefusesCgroupV1",
      severity: "error",
      what: `failCgroupV1 is true in /${path}, and this host has cgroup v1`,
      consequence: "the kubelet does not start",
      remedy: "Set it to false, or boot with systemd.unified_cgroup_hierarchy=1.",
    });
  }
  return findings;
}

async function parsed(text: string): Promise<KubeletConfiguration | undefined> {
  const { parse } = (await import("yaml")).default;
  try {
    const value: unknown = parse(text, { maxAliasCount: 0 });
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
