/**
 * systemd's side of the agent: it is told when the agent is ready, reads its configuration again, ends, and that its event
 * loop turns (sd_notify(3)); and it may hand over the CRI socket (sd_listen_fds(3)). Without systemd nothing happens.
 */
import { type Addon, native } from "../native/binding.js";
import { FailedPreconditionError, messageOf } from "../sandbox/errors.js";
import type { Log } from "./log.js";

export interface ServiceManager {
  /** the CRI socket that systemd listens on already; null: the agent makes its own */
  readonly listener: { readonly fd: number; readonly path: string } | null;
  /** READY=1, and from now on the watchdog is fed. `status` is shown by systemctl */
  ready(status: string): void;
  reloading(): void;
  /** resolves when systemd has been told */
  stopping(): Promise<void>;
}

type Environment = Record<string, string | undefined>;

/** the first that systemd passes */
const firstListener = 3;
/** a beat is late twice before the watchdog bites */
const beatsPerTimeout = 3;

/**
 * Takes systemd's variables out of the environment: programs that the agent starts must not speak for it.
 * @throws FailedPreconditionError when systemd passes what is no socket for the CRI
 */
export function openServiceManager(
  environment: Environment,
  log: Log,
  { notifyServiceManager, takeListener }: Pick<Addon, "notifyServiceManager" | "takeListener"> = native,
): ServiceManager {
  const own = (name: string) => environment[name] === undefined || Number(environment[name]) === process.pid;
  const address = environment["NOTIFY_SOCKET"];
  const watchdogUs = own("WATCHDOG_PID") ? Number(environment["WATCHDOG_USEC"] ?? 0) : 0;
  const passed = environment["LISTEN_PID"] !== undefined && own("LISTEN_PID") ? Number(environment["LISTEN_FDS"]) : 0;
  for (const name of ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"]) delete environment[name];
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete environment[name];
  const listener = passed > 0 ? listenerOf(passed, takeListener) : null;

  let last = Promise.resolve();
  let failedBefore = false;
  // one after the other: they are sent by threads
  const tell = (text: string): Promise<void> => {
    if (address === undefined || address === "") return Promise.resolve();
    last = last
      .then(() => notifyServiceManager(address, text))
      .catch((error: unknown) => {
        if (!failedBefore) log.warn(`systemd cannot be told of the agent's state: ${messageOf(error)}`);
        failedBefore = true;
      });
    return last;
  };
  let isWatched = false;
  return {
    listener,
    ready(status) {
      void tell(`READY=1\nSTATUS=${status.replaceAll("\n", " ")}`);
      if (isWatched || !(watchdogUs > 0)) return;
      isWatched = true;
      setInterval(() => void tell("WATCHDOG=1"), watchdogUs / 1000 / beatsPerTimeout).unref();
    },
    reloading() {
      // the time is for Type=notify-reload of systemd 253
      void tell(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
    },
    stopping: () => tell("STOPPING=1"),
  };
}

function listenerOf(count: number, takeListener: Addon["takeListener"]): { fd: number; path: string } {
  if (count !== 1) {
    throw new FailedPreconditionError(
      `systemd passes ${count} sockets, and the agent knows one: berth.socket needs one ListenStream`,
    );
  }
  try {
    return { fd: firstListener, path: takeListener(firstListener) };
  } catch (error) {
    throw new FailedPreconditionError(`the socket that systemd passes cannot be used: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
