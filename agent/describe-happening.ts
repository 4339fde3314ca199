/** A happening in words, with the names of what it is about. */
import type { berth as proto } from "../cri-proto/generated/admin.js";
import { describeErrno } from "../sandbox/errno.js";
import { messageOf } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Happening, PodNames } from "../sandbox/observer.js";
import { podNames } from "../sandbox/pod.js";

type Known = Pick<SandboxNode, "pods" | "containers">;
type Described = proto.v1.IHappening & { severity: "debug" | "info" | "warning" | "error" };

const seccompSentences = {
  killed: (program: string, call: string) => `seccomp has killed ${program}, which called ${call}`,
  refused: (program: string, call: string) => `seccomp has refused ${program} the system call ${call}`,
  logged: (program: string, call: string) =>
    `${program} has called ${call}, which its seccomp profile wants to be told`,
};

/** Null: it is a measurement, or the beginning of something whose end is told. */
export function describeHappening(happening: Happening, known: Known): Described | null {
  const { type } = happening;
  const about = (podId: string, containerId = "") => ({ type, ...namesOf(known, podId, containerId) });
  switch (type) {
    case "step":
    case "pull-begun":
    case "pull-bytes":
    case "record-written":
      return null;
    case "container-exit": {
      const { podId, containerId, exitCode, oomKilled } = happening;
      const message = `the container ended with ${exitCode}${oomKilled ? ": out of memory" : ""}`;
      const details = { exit_code: String(exitCode), oom_killed: String(oomKilled) };
      return { ...about(podId, containerId), severity: "info", message, details };
    }
    case "oom": {
      const message = "memory ran out, and the kernel killed a process of the container";
      return { ...about(happening.podId, happening.containerId), severity: "warning", message };
    }
    case "seccomp-denied": {
      const { podId, containerId, program, call, outcome } = happening;
      const message = seccompSentences[outcome](program, call);
      return { ...about(podId, containerId), severity: "warning", message, details: { program, call, outcome } };
    }
    case "log-dropped": {
      const { podId, containerId, errno, bytes, begins } = happening;
      if (!begins) return null;
      const message = `output is lost: the log cannot be written: ${describeErrno(errno)}`;
      return { ...about(podId, containerId), severity: "error", message, details: { bytes: String(bytes) } };
    }
    case "exec-output-cut": {
      const { podId, containerId, command, bytes, requestId } = happening;
      const message = "an exec's output was cut: it is too long for an answer";
      return {
        ...about(podId, containerId),
        request_id: requestId ?? null,
        severity: "warning",
        message,
        details: { command, bytes: String(bytes) },
      };
    }
    case "container-event":
    case "pod-event": {
      const { podId, event } = happening;
      const containerId = type === "container-event" ? happening.containerId : "";
      const message = `the ${type === "pod-event" ? "pod" : "container"} is ${event}`;
      return { ...about(podId, containerId), severity: "debug", message, details: { event } };
    }
    case "monitor-lost":
      return {
        ...about(happening.podId),
        severity: "error",
        message: "the pod's monitor is gone; the pod is taken down",
      };
    case "pull-ended": {
      const { image, priority, failure } = happening;
      const what = priority === "low" ? "prefetch" : "pull";
      const details = { image, priority };
      if (failure === undefined) return { type, severity: "info", message: `${what} of ${image} has ended`, details };
      const message = `${what} of ${image} has failed: ${failure.sentence}`;
      return { type, severity: "warning", message, details: { ...details, failure: failure.kind } };
    }
    case "repaired": {
      const { what, subject, pod } = happening;
      const message = `left by an earlier agent and removed: ${what} ${subject}`;
      return { type, ...namesOfSubject(known, subject, pod), severity: "info", message, details: { what, subject } };
    }
    case "restored": {
      const { what, subject } = happening;
      const message = `removed or changed by another program, and made again: ${what} (${subject})`;
      return { type, severity: "warning", message, details: { what, subject } };
    }
    case "adjusted": {
      const { subject, path, changed } = happening;
      const message = `its spec was adjusted by ${path}: ${changed.join("; ")}`;
      return { type, ...namesOfSubject(known, subject), severity: "info", message, details: { module: path } };
    }
    case "limitation":
      return { type, severity: "warning", message: happening.sentence };
    case "condition": {
      const { condition, isTrue, sentence } = happening;
      const message = isTrue ? `${condition} is true again` : `${condition} is false: ${sentence}`;
      return { type, severity: isTrue ? "info" : "error", message, details: { condition, is_true: String(isTrue) } };
    }
    case "trouble": {
      const { what, subject, error, pod, attempts } = happening;
      const message = `failed: ${what}: ${messageOf(error)}`;
      const details = { what, subject, ...(attempts !== undefined && { attempts: String(attempts) }) };
      return { type, ...namesOfSubject(known, subject, pod), severity: "warning", message, details };
    }
    default:
      return happening satisfies never;
  }
}

/** Of what is about a pod or a container, or a file or an interface. */
function namesOfSubject(known: Known, subject: string, pod?: PodNames): proto.v1.IHappening {
  if (pod !== undefined) return kubernetesNames(pod);
  if (!/^[0-9a-f]{64}$/.test(subject)) return {};
  const container = known.containers.find(subject);
  return container === undefined ? namesOf(known, subject, "") : namesOf(known, container.record.podId, subject);
}

function namesOf(known: Known, podId: string, containerId: string): proto.v1.IHappening {
  const pod = podId === "" ? undefined : known.pods.find(podId);
  const container = containerId === "" ? undefined : known.containers.find(containerId);
  const metadata = container?.record.config["metadata"] as { name?: string } | undefined;
  return {
    ...(podId !== "" && { pod_sandbox_id: podId }),
    ...(containerId !== "" && { container_id: containerId }),
    ...(pod !== undefined && kubernetesNames(podNames(pod))),
    ...(metadata?.name !== undefined && { container_name: metadata.name }),
  };
}

function kubernetesNames({ namespace, name, uid }: PodNames): proto.v1.IHappening {
  return { pod_namespace: namespace, pod_name: name, pod_uid: uid };
}
