/** What happens on this node, told over the admin API; the latest of it is remembered. */
import type { berth as proto } from "../cri-proto/generated/admin.js";
import { ResourceExhaustedError, UnavailableError } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import { currentRequestId } from "../sandbox/request-id.js";
import { describeHappening } from "./describe-happening.js";
import { describeVictim } from "./oom-victim.js";
import { toInt64 } from "./states.js";
import { Subscription } from "./subscription.js";

const mostRemembered = 200;
const victimAfterMs = 250;
/** for a watcher who does not take them */
const mostWaiting = 1_000;

interface Told {
  at: bigint;
  happening: proto.v1.IHappening;
}

interface Wish {
  /** nanoseconds since 1970 */
  after: bigint;
  /** empty: all */
  types: readonly string[];
  /** it ends with what is remembered */
  rememberedOnly?: boolean;
}

export class Happenings {
  readonly #remembered: Told[] = [];
  readonly #watchers = new Set<{ types: readonly string[]; subscription: Subscription<proto.v1.IHappening> }>();
  readonly #victimsAwaited = new Set<string>();
  #lastTime = 0n;

  /** It listens from now on, so that what recovery repairs is told, too. */
  constructor(node: Pick<SandboxNode, "pods" | "containers" | "observer">) {
    node.observer.subscribe((happening) => {
      const described = describeHappening(happening, node);
      if (described === null) return;
      if (happening.type === "oom") this.#tellWithVictim(described, happening.containerId);
      else
        this.#tell(
          happening.type === "container-exit" && happening.oomKilled
            ? withVictim(described, happening.containerId)
            : described,
        );
    });
  }

  /** What is remembered, then what happens, in its order. */
  async *watch(
    { after, types, rememberedOnly = false }: Wish,
    signal: AbortSignal,
  ): AsyncGenerator<proto.v1.IHappening> {
    const wanted = this.#remembered.filter(({ at, happening }) => at > after && wants(types, happening));
    const watcher = { types, subscription: new Subscription<proto.v1.IHappening>(mostWaiting) };
    if (rememberedOnly) {
      for (const { happening } of wanted) yield happening;
      return;
    }
    for (const { happening } of wanted) watcher.subscription.push(happening);
    this.#watchers.add(watcher);
    try {
      for (;;) yield await watcher.subscription.next(signal);
    } finally {
      this.#watchers.delete(watcher);
    }
  }

  /** The latest, the oldest of them first. */
  remembered(): proto.v1.IHappening[] {
    return this.#remembered.map(({ happening }) => happening);
  }

  /** The agent ends. */
  close(): void {
    for (const { subscription } of this.#watchers) subscription.fail(new UnavailableError("the agent ends"));
  }

  /** The kernel tells first that it has to kill, and then, in its log, whom. Its log is read once for many of a moment. */
  #tellWithVictim(described: proto.v1.IHappening, containerId: string): void {
    if (this.#victimsAwaited.has(containerId)) return;
    this.#victimsAwaited.add(containerId);
    setTimeout(() => {
      this.#victimsAwaited.delete(containerId);
      this.#tell(withVictim(described, containerId));
    }, victimAfterMs).unref();
  }

  #tell(described: proto.v1.IHappening): void {
    const at = this.#time();
    const request_id = described.request_id ?? currentRequestId() ?? "";
    const happening = { ...described, request_id, at: toInt64(at) };
    this.#remembered.push({ at, happening });
    if (this.#remembered.length > mostRemembered) this.#remembered.shift();
    for (const watcher of this.#watchers) {
      if (!wants(watcher.types, happening) || watcher.subscription.push(happening)) continue;
      watcher.subscription.fail(new ResourceExhaustedError(`${mostWaiting} happenings were not taken; watch again`));
      this.#watchers.delete(watcher);
    }
  }

  /** No two are of the same time: who has seen one asks for what is after it. */
  #time(): bigint {
    const now = BigInt(Date.now()) * 1_000_000n;
    this.#lastTime = now > this.#lastTime ? now : this.#lastTime + 1n;
    return this.#lastTime;
  }
}

function withVictim(described: proto.v1.IHappening, containerId: string): proto.v1.IHappening {
  return { ...described, message: `${described.message}: ${describeVictim(containerId)}` };
}

function wants(types: readonly string[], { type }: proto.v1.IHappening): boolean {
  return types.length === 0 || types.includes(type ?? "");
}
