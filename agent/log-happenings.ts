import { describeErrno } from "../sandbox/errno.js";
import { messageOf } from "../sandbox/errors.js";
import type { Happening, Observer } from "../sandbox/observer.js";
import type { Log } from "./log.js";

/** A log line for everything that happens beside the calls. */
export function logHappenings(observer: Observer, log: Log): void {
  observer.subscribe((happening) => tell(happening, log.areas));
}

function tell(happening: Happening, { steps, events: log }: Log["areas"]): void {
  switch (happening.type) {
    case "step":
      steps.debug({ operation: happening.operation, ms: Math.round(happening.seconds * 1e5) / 100 }, happening.step);
      break;
    case "container-exit": {
      const { podId, containerId, exitCode, oomKilled } = happening;
      log.info({ pod: podId, container: containerId, exitCode, ...(oomKilled && { oomKilled }) }, "container ended");
      break;
    }
    case "oom":
      log.warn({ pod: happening.podId, container: happening.containerId }, "the kernel killed for memory");
      break;
    case "seccomp-denied": {
      const { podId, containerId, program, call, outcome } = happening;
      log.warn({ pod: podId, container: containerId, program, call }, `a system call was ${outcome} by seccomp`);
      break;
    }
    case "log-dropped": {
      const { podId, containerId, errno, begins } = happening;
      // once, and not for each second of a full disk
      if (begins)
        log.error(
          { pod: podId, container: containerId },
          `its output is lost: the log cannot be written: ${describeErrno(errno)}`,
        );
      break;
    }
    case "exec-output-cut": {
      const { podId, containerId, command, bytes, requestId: request } = happening;
      log.warn(
        { request, pod: podId, container: containerId, command, bytes },
        "an exec's output was cut: it is too long for an answer",
      );
      break;
    }
    case "container-event":
      log.debug({ pod: happening.podId, container: happening.containerId }, `container ${happening.event}`);
      break;
    case "pod-event":
      log.debug({ pod: happening.podId }, `pod ${happening.event}`);
      break;
    case "monitor-lost":
      log.error({ pod: happening.podId }, "the pod's monitor is gone; the pod is taken down");
      break;
    case "pull-begun":
    case "pull-ended":
    case "pull-bytes":
    case "record-written":
      // the call that it is for has a line of its own
      break;
    case "repaired":
      log.info({ subject: happening.subject }, `left by an earlier agent and removed: ${happening.what}`);
      break;
    case "restored":
      log.warn(
        { subject: happening.subject },
        `removed or changed by another program, and made again: ${happening.what}`,
      );
      break;
    case "adjusted":
      log.info(
        { container: happening.subject, module: happening.path, changed: happening.changed },
        "its spec was adjusted",
      );
      break;
    case "limitation":
      log.warn(happening.sentence);
      break;
    case "condition":
      if (happening.isTrue) log.info(`${happening.condition} is true again`);
      else log.error(`${happening.condition} is false: ${happening.sentence}`);
      break;
    case "trouble":
      log.warn({ subject: happening.subject, error: messageOf(happening.error) }, `failed: ${happening.what}`);
      break;
    default:
      happening satisfies never;
  }
}
