import { runtime } from "../../cri-proto/generated/runtime.js";
import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import type { OciImageConfig } from "../image-config.js";

const { Signal } = runtime.v1;

const numbersByName: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGIOT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPOLL: 29,
  SIGPWR: 30,
  SIGSYS: 31,
};
// as C libraries count them: 32 and 33 are the threads' own
const sigrtmin = 34;
const sigrtmax = 64;

/** "TERM", "SIGTERM", "SIGRTMIN+3", "SIGRTMAX-2", "15" as Linux' number. */
function parseSignal(text: string): number | undefined {
  if (/^[0-9]{1,2}$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= sigrtmax ? number : undefined;
  }
  const upper = text.toUpperCase();
  const name = upper.startsWith("SIG") ? upper : `SIG${upper}`;
  const realTime = /^SIGRT(MIN|MAX)(?:([+-])([0-9]{1,2}))?$/.exec(name);
  if (realTime === null) return numbersByName[name];
  const [, base, sign, offset] = realTime;
  if (sign !== undefined && sign !== (base === "MIN" ? "+" : "-")) return undefined;
  const number = base === "MIN" ? sigrtmin + Number(offset ?? 0) : sigrtmax - Number(offset ?? 0);
  return number >= sigrtmin && number <= sigrtmax ? number : undefined;
}

/** The CRI's names are the usual ones, with SIGNAL_ before and PLUS and MINUS in words. */
const linuxByCri = new Map<number, number>();
const criByLinux = new Map<number, number>();
for (const [name, value] of Object.entries(Signal)) {
  if (typeof value !== "number" || value === Signal.SIGNAL_RUNTIME_DEFAULT) continue;
  const number = parseSignal(
    name
      .replace(/^SIGNAL_/, "")
      .replace("PLUS", "+")
      .replace("MINUS", "-"),
  );
  if (number === undefined) continue;
  linuxByCri.set(value, number);
  // of two names for one number (SIGIOT, SIGCLD, SIGPOLL) the common one
  if (!/SIG(IOT|CLD|POLL)$/.test(name)) criByLinux.set(number, value);
}

/**
 * The stop signal that counts, as the CRI's Signal: the request's, else the image's StopSignal, else SIGTERM. An image's
 * that is no signal counts as none: it was never checked before, and a container has to stop.
 */
export function criStopSignal(config: ContainerConfig, image: OciImageConfig): number {
  const asked = config.stop_signal ?? Signal.SIGNAL_RUNTIME_DEFAULT;
  if (asked !== Signal.SIGNAL_RUNTIME_DEFAULT) {
    if (!linuxByCri.has(asked)) throw new InvalidArgumentError(`config.stop_signal: ${asked} is no signal`);
    return asked;
  }
  const ofImage = parseSignal(image.config.StopSignal);
  return criByLinux.get(ofImage ?? 0) ?? Signal.SIGNAL_SIGTERM;
}

/** Linux' number of a CRI Signal; SIGTERM for the runtime's default. */
export function linuxSignal(criSignal: number): number {
  return linuxByCri.get(criSignal) ?? 15;
}
