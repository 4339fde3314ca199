/** Connections to what listens on a pod's loopback, for port-forwards. */
import { isSystemError, native } from "../native/binding.js";
import { describeErrno } from "./errno.js";
import { FailedPreconditionError, UnavailableError } from "./errors.js";
import type { Pod } from "./pod.js";

/** FailedPreconditionError: the pod is not ready. */
export function checkReady({ record: { id, phase } }: Pod): void {
  if (phase !== "ready") throw new FailedPreconditionError(`pod sandbox ${id} is ${phase}, not ready`);
}

/**
 * A connected socket, which is the caller's. One that only listens on ::1 is found, too.
 * @throws UnavailableError: nobody listens there, or accepts
 */
export async function connectToPod(pod: Pod, port: number): Promise<number> {
  checkReady(pod);
  const { id, netnsPath } = pod.record;
  try {
    return await native.connectLoopback({ namespacePath: netnsPath, port });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const why = error.errnoName === "ECONNREFUSED" ? "connection refused" : describeErrno(error.errno);
    throw new UnavailableError(`${error.syscall} ${error.subject} in pod sandbox ${id}: ${why}`, { cause: error });
  }
}
