import { Session } from "node:inspector/promises";
import { setTimeout as pause } from "node:timers/promises";
import type { berth as proto } from "../../cri-proto/generated/admin.js";
import { FailedPreconditionError, InvalidArgumentError } from "../../sandbox/errors.js";
import { debugPieces } from "../debug-pieces.js";
import type { Runtime } from "../runtime.js";

const mostSeconds = 300;
let isRunning = false;

/** `berth debug cpu`. Nobody listens on a port: the profiler is asked in this process. */
export async function* profileCpu(
  _runtime: Runtime,
  { seconds }: proto.v1.ProfileCpuRequest,
  signal: AbortSignal,
): AsyncGenerator<proto.v1.IDebugPiece> {
  if (seconds < 1 || seconds > mostSeconds)
    throw new InvalidArgumentError(`seconds: ${seconds} is not 1 to ${mostSeconds}`);
  if (isRunning) throw new FailedPreconditionError("another profile is being taken; try again when it has ended");
  isRunning = true;
  const session = new Session();
  try {
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await pause(seconds * 1_000, undefined, { signal });
    const { profile } = await session.post("Profiler.stop");
    yield* debugPieces(Buffer.from(JSON.stringify(profile)));
  } finally {
    session.disconnect();
    isRunning = false;
  }
}
