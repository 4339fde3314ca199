import { randomBytes } from "node:crypto";
import type { Container, ContainerRecord } from "./container.js";
import { InvalidArgumentError, NotFoundError } from "./errors.js";
import type { Pod } from "./pod.js";

/** 64 hexadecimal digits, as the field's ids are. */
export function newId(): string {
  return randomBytes(32).toString("hex");
}

/** Things by their id or any unique beginning of it. */
class IndexOfIds<T extends { record: { id: string } }> {
  readonly #byId = new Map<string, T>();

  constructor(private readonly what: string) {}

  add(item: T): void {
    this.#byId.set(item.record.id, item);
  }

  delete(id: string): void {
    this.#byId.delete(id);
  }

  get size(): number {
    return this.#byId.size;
  }

  list(): T[] {
    return [...this.#byId.values()];
  }

  /** Undefined when nothing has that id. InvalidArgumentError: the id is empty, or begins those of several. */
  find(idOrPrefix: string): T | undefined {
    if (idOrPrefix === "") throw new InvalidArgumentError(`the id of the ${this.what} is missing`);
    const exact = this.#byId.get(idOrPrefix);
    if (exact !== undefined) return exact;
    let found: T | undefined;
    for (const [id, item] of this.#byId) {
      if (!id.startsWith(idOrPrefix)) continue;
      if (found !== undefined) {
        throw new InvalidArgumentError(`"${idOrPrefix}" begins the ids of several ${this.what}s; give more of it`);
      }
      found = item;
    }
    return found;
  }

  /** As find, but NotFoundError when there is none. */
  resolve(idOrPrefix: string): T {
    const found = this.find(idOrPrefix);
    if (found === undefined) throw new NotFoundError(`${this.what} "${idOrPrefix}" is not known`);
    return found;
  }
}

export class Pods extends IndexOfIds<Pod> {
  /** being made, and not yet among the others */
  readonly starting = new Set<Pod>();
  /** not among the others any more; their cgroups' parents are still to be removed */
  readonly going = new Set<Pod>();
  /** cgroups' parents that are being removed, absolute: who plans with one cannot count on it */
  readonly parentsGoing = new Set<string>();

  constructor() {
    super("pod sandbox");
  }
}

/** A container that is being made. */
export interface Creation {
  record: ContainerRecord;
}

export class Containers extends IndexOfIds<Container> {
  /** being made or taken back, and not among the others: each may outlive its pod, and needs its cgroup's parents then */
  readonly creations = new Set<Creation>();
  /** those of them that could not be taken back whole; they go with their pod, or at the start of the next agent */
  readonly halfMade = new Set<Creation>();

  constructor() {
    super("container");
  }

  ofPod(podId: string): Container[] {
    return this.list().filter((container) => container.record.podId === podId);
  }

  halfMadeOf(podId: string): Creation[] {
    return [...this.halfMade].filter(({ record }) => record.podId === podId);
  }
}
