import { native } from "../native/binding.js";
import { FailedPreconditionError } from "./errors.js";
import { Latch } from "./latch.js";
import { MonitorClient, type MonitorEvents } from "./monitor-client.js";
import { monitorSocketPath, type NodePaths } from "./paths.js";

/** How long a monitor has for killing its containers before it is killed itself. */
const shutdownTimeoutMs = 10_000;

interface MonitorProcess {
  pidfd: number;
  ended: Latch;
  watch: { close(): void };
}

/** The monitors of the pods that are ready: their processes, and a connection to each. */
export class Monitors {
  readonly #clients = new Map<string, MonitorClient>();
  readonly #processes = new Map<string, MonitorProcess>();
  /** pods whose monitors live, and speak versions of the protocol that this agent does not */
  readonly #strangers = new Set<string>();

  /** Keeps a monitor's pidfd until the process has ended; reaps it when this agent is its parent. */
  watch(podId: string, pidfd: number): void {
    const ended = new Latch();
    const watch = native.watchProcess(pidfd, () => {
      this.#processes.delete(podId);
      native.closeDescriptor(pidfd);
      ended.open();
    });
    this.#processes.set(podId, { pidfd, ended, watch });
  }

  /** Connects to the pod's monitor and keeps the connection. UnavailableError: nobody answers. */
  async connect(paths: NodePaths, podId: string, events: MonitorEvents): Promise<MonitorClient> {
    const client = await MonitorClient.connect(podId, monitorSocketPath(paths, podId), {
      ...events,
      closed: (error) => {
        this.#clients.delete(podId);
        events.closed(error);
      },
    });
    this.#clients.set(podId, client);
    return client;
  }

  find(podId: string): MonitorClient | undefined {
    return this.#clients.get(podId);
  }

  /** FailedPreconditionError when the pod has no monitor (it was stopped, or has lost it). */
  get(podId: string): MonitorClient {
    const client = this.#clients.get(podId);
    if (client !== undefined) return client;
    throw new FailedPreconditionError(
      this.#strangers.has(podId)
        ? `pod sandbox ${podId} runs on under a monitor of another version of Berth, which this agent cannot talk to: stop the pod, or install that version again`
        : `pod sandbox ${podId} is not ready`,
    );
  }

  /** From here on the pod is known to live with a monitor that cannot be talked to; stopping it kills all of it. */
  leaveToItself(podId: string): void {
    this.#strangers.add(podId);
  }

  isLeftToItself(podId: string): boolean {
    return this.#strangers.has(podId);
  }

  /** Ends the monitor with all of its containers; back when the process is gone. False: it had to be killed. */
  async end(podId: string): Promise<boolean> {
    const client = this.#clients.get(podId);
    const ended = this.#processes.get(podId)?.ended;
    const asked = client === undefined ? Promise.resolve(false) : client.shutdown().then(() => true);
    const clean = await Promise.race([
      asked.catch(() => false),
      // a monitor that does not answer, or has been killed, is not waited for
      ended === undefined ? new Promise<never>(() => undefined) : ended.wait(shutdownTimeoutMs).then(() => false),
    ]);
    this.disconnect(podId);
    this.#strangers.delete(podId);
    const watched = this.#processes.get(podId);
    if (watched === undefined) return clean;
    if (clean && (await watched.ended.wait(shutdownTimeoutMs))) return true;
    native.sendSignal(watched.pidfd, 9);
    await watched.ended.wait(shutdownTimeoutMs);
    return false;
  }

  /**
   * Waits for the end of a monitor that was lost, or is ending with its pod: until then what it has started may run on.
   * FailedPreconditionError: it does not end.
   */
  async untilEnded(podId: string): Promise<void> {
    const ended = this.#processes.get(podId)?.ended;
    // first it is given its time, then it is killed
    if (ended === undefined || (await ended.wait(2 * shutdownTimeoutMs))) return;
    throw new FailedPreconditionError(`the monitor of pod sandbox ${podId} is about to end, but has not ended yet`);
  }

  /** Ends every connection without an event, and watches no process any more: pods run on without this process. */
  close(): void {
    for (const podId of [...this.#clients.keys()]) this.disconnect(podId);
    for (const { watch, pidfd } of this.#processes.values()) {
      watch.close();
      native.closeDescriptor(pidfd);
    }
    this.#processes.clear();
  }

  /** Ends the connection without an event. */
  disconnect(podId: string): void {
    this.#clients.get(podId)?.close();
    this.#clients.delete(podId);
  }
}
