/**
 * A pod as systemd knows it: one transient scope in the pod's slice (systemd.scope(5)), with its cgroup delegated to Berth
 * (CGROUP_DELEGATION.md of systemd). What is below is Berth's alone, so that neither a container nor an exec needs systemd.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { FailedPreconditionError, messageOf } from "../../errors.js";
import { isDbusError, type ManagerBus, openManagerBus, type Property } from "./manager-bus.js";
import { slicePath } from "./slices.js";

export interface PodScope {
  /** berth-<id>.scope */
  unit: string;
  slice: string;
  /** cgroup path */
  path: string;
}

export interface PodScopes {
  /**
   * Makes the scope with the process as its first; the process's cgroup is the scope's own afterwards. A scope that is there
   * already is success. FailedPreconditionError: systemd refuses, in its own words.
   */
  start(scope: PodScope, options: { pid: number; description: string }): Promise<void>;
  /**
   * Tells systemd that the scope's processes are gone. It finds out by itself, too, but not everywhere soon (on cgroup v1 it
   * may look at its next reload): nothing waits for it, and nothing depends on it.
   */
  forget(scope: PodScope): void;
}

/** How long a signal about a job is waited for before the unit is looked at: one can be lost while systemd re-executes. */
const signalTimeoutMs = 1_000;
const startTimeoutMs = 30_000;

export function podScope(podId: string, slice: string): PodScope {
  const unit = `berth-${podId}.scope`;
  return { unit, slice, path: `${slicePath(slice)}/${unit}` };
}

/** FailedPreconditionError: no systemd answers on the bus. */
export async function openPodScopes(): Promise<PodScopes> {
  const { Variant } = (await import("@particle/dbus-next")).default;
  const manager = await openManagerBus();
  const waiting = new Map<string, (result: string) => void>();
  manager.onJobRemoved((unit, result) => waiting.get(unit)?.(result));
  try {
    await manager.call("ListUnitsByNames", "as", []);
  } catch (error) {
    throw new FailedPreconditionError(`--cgroup-driver systemd: ${messageOf(error)}`, { cause: error });
  }

  return {
    async start({ unit, slice }, { pid, description }) {
      const properties: Property[] = [
        ["Description", new Variant("s", description)],
        ["Slice", new Variant("s", slice)],
        ["PIDs", new Variant("au", [pid])],
        ["Delegate", new Variant("b", true)],
        // stopped by whoever asks Berth, not by systemd at the beginning of a shutdown: the kubelet ends pods in order
        ["DefaultDependencies", new Variant("b", false)],
        ["CollectMode", new Variant("s", "inactive-or-failed")],
        // limits are the kubelet's, on the slice, and the containers', below
        ["TasksMax", new Variant("t", 0xffffffffffffffffn)],
      ];
      const ended = new Promise<string>((resolve) => waiting.set(unit, resolve));
      const through = new AbortController();
      try {
        await manager.call("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", properties, []).catch((error) => {
          // of the same call before, which was carried out and not answered
          if (!isDbusError(error, "org.freedesktop.systemd1.UnitExists")) throw error;
        });
        const result = await Promise.race([ended, activeByItself(manager, unit, through.signal)]);
        if (result !== "done") throw new Error(`its job has ended as "${result}"`);
      } catch (error) {
        throw new FailedPreconditionError(`systemd could not start ${unit} in ${slice}: ${messageOf(error)}`, {
          cause: error,
        });
      } finally {
        // nobody asks systemd about what its signal has told
        through.abort();
        waiting.delete(unit);
      }
    },

    forget({ unit }) {
      manager.call("StopUnit", "ss", unit, "replace").catch(() => undefined);
    },
  };
}

/** The job's result, found without its signal. Rejects when it is not wanted any more. */
async function activeByItself(manager: ManagerBus, unit: string, signal: AbortSignal): Promise<string> {
  const until = performance.now() + startTimeoutMs;
  for (;;) {
    await sleep(signalTimeoutMs, undefined, { ref: false, signal });
    const state = await manager.unitProperty(unit, "ActiveState");
    if (state === "active") return "done";
    if (state === "failed" || performance.now() > until) return String(state);
  }
}
