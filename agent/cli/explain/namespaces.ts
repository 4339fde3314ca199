import { runtime } from "../../../cri-proto/generated/runtime.js";
import { pidSharingAnnotation } from "../../../sandbox/spec/namespaces.js";
import { type Fact, fact, type Section, type Subject } from "./fact.js";

const { NamespaceMode } = runtime.v1;
const podField = "pod: linux.security_context.namespace_options";

export function namespaceFacts({ spec, config, podConfig }: Subject): Section {
  const ofPod = podConfig.linux?.security_context?.namespace_options;
  const own = (type: string) => spec.linux.namespaces.some((namespace) => namespace.type === type);
  const shared = (name: "network" | "ipc", flag: string): Fact =>
    ofPod?.[name] === NamespaceMode.NODE
      ? fact(`${name}: the host's`, `${podField}.${name} = NODE`, "nothing: it is inherited from the agent")
      : fact(
          `${name}: the pod's, with all its containers`,
          `${podField}.${name} = POD`,
          `clone3(${flag}) of the pod's monitor`,
        );
  const facts = [
    shared("network", "CLONE_NEWNET"),
    shared("ipc", "CLONE_NEWIPC"),
    hostname(podConfig),
    pid(spec.annotations?.[pidSharingAnnotation], config),
    fact(
      "mount: its own",
      "always",
      "clone3(CLONE_NEWNS), then pivot_root() and umount2(MNT_DETACH) of the host's root",
    ),
  ];
  if (own("cgroup"))
    facts.push(fact("cgroup: its own; it sees its cgroup as the root", "always", "unshare(CLONE_NEWCGROUP)"));
  const [uids] = spec.linux.uidMappings ?? [];
  facts.push(
    uids === undefined
      ? fact("user: the host's; root inside is root outside", `${podField}.userns_options`, "nothing")
      : fact(
          `user: the pod's; ids 0 to ${uids.size - 1} inside are ${uids.hostID} to ${uids.hostID + uids.size - 1} outside`,
          `${podField}.userns_options.uids`,
          "clone3(CLONE_NEWUSER), /proc/PID/uid_map; setns(CLONE_NEWUSER) by the container",
        ),
  );
  return { title: "Namespaces: what it sees", facts };
}

function hostname(podConfig: runtime.v1.IPodSandboxConfig): Fact {
  const hostNetwork = podConfig.linux?.security_context?.namespace_options?.network === NamespaceMode.NODE;
  const name = podConfig.hostname ?? "";
  if (hostNetwork) {
    return fact("uts: the host's", `${podField}.network = NODE`, "nothing: it is inherited from the agent");
  }
  const made = "clone3(CLONE_NEWUTS)";
  return name === ""
    ? fact("uts: the pod's; the name is the host's", "pod: hostname is not set", `${made} of the pod's monitor`)
    : fact(
        `uts: the pod's; the host name is ${JSON.stringify(name)}`,
        "pod: hostname",
        `${made} and sethostname() of the pod's monitor`,
      );
}

function pid(sharing: string | undefined, config: runtime.v1.IContainerConfig): Fact {
  const field = "linux.security_context.namespace_options.pid";
  const target = config.linux?.security_context?.namespace_options?.target_id ?? "";
  switch (sharing) {
    case "container":
      return fact("pid: its own; its program is process 1", `${field} = CONTAINER`, "clone3(CLONE_NEWPID)");
    case "target":
      return fact(`pid: container ${target}'s`, `${field} = TARGET`, "setns(CLONE_NEWPID), then clone3()");
    case "host":
      return fact(
        "pid: the host's; it sees every process",
        `${field} = NODE`,
        "nothing: it is inherited from the agent",
      );
    default:
      return fact(
        "pid: the pod's; process 1 is the pod's reaper",
        `${field} = POD`,
        "setns(CLONE_NEWPID), then clone3()",
      );
  }
}
