/** Pods whose interface somebody deletes, on the host or inside: they get it again, with all that their lease tells. */
import { statSync } from "node:fs";
import type { Addon } from "../../native/binding.js";
import type { Observer } from "../observer.js";
import type { NetworkLease } from "./provider.js";
import { Restorer } from "./restorer.js";

export interface ReattachmentOptions {
  addon: Pick<Addon, "linkIndex" | "openPath" | "closeDescriptor">;
  /** where a pod's network namespace is pinned */
  namespaceOf: (podId: string) => string;
  attach: (lease: NetworkLease, namespaceFd: number) => Promise<void>;
  deleteInterfaces: (lease: NetworkLease) => Promise<void>;
  observer: Observer;
}

export class Reattachment {
  readonly #options: ReattachmentOptions;
  readonly #restorer: Restorer;
  /** those that are attached as far as anybody here knows */
  readonly #attached = new Map<string, NetworkLease>();

  constructor(options: ReattachmentOptions) {
    this.#options = options;
    this.#restorer = new Restorer({ restore: () => this.#look(), onRestored: () => undefined });
  }

  attached(podId: string, lease: NetworkLease): void {
    this.#attached.set(podId, lease);
  }

  detached(podId: string): void {
    this.#attached.delete(podId);
  }

  /** An interface of the host has gone; undefined: some may have. */
  gone(name: string | undefined): void {
    const isOurs = [...this.#attached.values()].some(({ hostInterface }) => hostInterface === name);
    if (name === undefined || isOurs) this.#restorer.missed("interfaces");
  }

  close(): void {
    this.#restorer.close();
  }

  /** What fails is told, and tried again with the next that goes and at the next start. */
  async #look(): Promise<boolean> {
    const { addon, observer } = this.#options;
    for (const [podId, lease] of this.#attached) {
      if (addon.linkIndex(lease.hostInterface) !== 0) continue;
      try {
        if (await this.#attachAgain(podId, lease))
          observer.emit({ type: "restored", what: "interface", subject: podId });
      } catch (error) {
        observer.emit({ type: "trouble", what: "give a pod its interface again", subject: podId, error });
      }
    }
    return true;
  }

  /** False: the pod has ended. */
  async #attachAgain(podId: string, lease: NetworkLease): Promise<boolean> {
    const { addon, namespaceOf, attach, deleteInterfaces } = this.#options;
    const path = namespaceOf(podId);
    if (!isNamespace(path)) return false;
    const namespaceFd = addon.openPath(path);
    try {
      // its limit's interface may be there still
      await deleteInterfaces(lease);
      await attach(lease, namespaceFd);
    } finally {
      addon.closeDescriptor(namespaceFd);
    }
    if (this.#attached.has(podId)) return true;
    // it was detached meanwhile
    await deleteInterfaces(lease);
    return false;
  }
}

/** A pin that is unmounted is an empty file. */
function isNamespace(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.dev === statSync("/proc/self/ns/net").dev;
}
