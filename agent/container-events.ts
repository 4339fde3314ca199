/** What happens to pods and containers, for those who subscribe to it over the CRI (the kubelet's evented PLEG). */
import { runtime as proto } from "../cri-proto/generated/runtime.js";
import { ResourceExhaustedError, UnavailableError } from "../sandbox/errors.js";
import type { SandboxNode } from "../sandbox/node.js";
import type { Happening, LifeEvent } from "../sandbox/observer.js";
import { containerStatus } from "./container-status.js";
import type { Images } from "./images/images.js";
import { podStatus } from "./pod-status.js";
import { toInt64 } from "./states.js";
import { Subscription } from "./subscription.js";

/** So many events may wait for a subscriber who does not take them; then it has to begin anew. */
const mostWaiting = 1_000;

const types: Record<LifeEvent, proto.v1.ContainerEventType> = {
  created: proto.v1.ContainerEventType.CONTAINER_CREATED_EVENT,
  started: proto.v1.ContainerEventType.CONTAINER_STARTED_EVENT,
  stopped: proto.v1.ContainerEventType.CONTAINER_STOPPED_EVENT,
  deleted: proto.v1.ContainerEventType.CONTAINER_DELETED_EVENT,
};

export class ContainerEvents {
  readonly #subscriptions = new Set<Subscription<proto.v1.IContainerEventResponse>>();
  #stopListening: (() => void) | undefined;
  #lastTime = 0n;

  constructor(
    private readonly node: Pick<SandboxNode, "pods" | "containers" | "observer">,
    private readonly images: Images,
  ) {}

  /**
   * Every event from now on, once and in order, each with the statuses of its moment. A sandbox is told of as a container
   * with the pod's id.
   * @throws ResourceExhaustedError when too many wait to be taken, UnavailableError when the agent ends
   */
  async *subscribe(signal: AbortSignal): AsyncGenerator<proto.v1.IContainerEventResponse> {
    const subscription = new Subscription<proto.v1.IContainerEventResponse>(mostWaiting);
    this.#subscriptions.add(subscription);
    this.#stopListening ??= this.node.observer.subscribe((happening) => this.#tell(happening));
    try {
      for (;;) yield await subscription.next(signal);
    } finally {
      this.#remove(subscription);
    }
  }

  /** The agent ends. */
  close(): void {
    for (const subscription of this.#subscriptions) {
      subscription.fail(new UnavailableError("the agent ends; pods run on, and the next agent tells of them"));
    }
  }

  #tell(happening: Happening): void {
    if (happening.type !== "container-event" && happening.type !== "pod-event") return;
    const { podId } = happening;
    const event = this.#describe(
      happening.type === "pod-event" ? podId : happening.containerId,
      podId,
      happening.event,
    );
    for (const subscription of this.#subscriptions) {
      if (subscription.push(event)) continue;
      subscription.fail(
        new ResourceExhaustedError(`${mostWaiting} events were not taken; subscribe again, and list what there is`),
      );
      this.#remove(subscription);
    }
  }

  #remove(subscription: Subscription<proto.v1.IContainerEventResponse>): void {
    this.#subscriptions.delete(subscription);
    if (this.#subscriptions.size > 0) return;
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  #describe(id: string, podId: string, event: LifeEvent): proto.v1.IContainerEventResponse {
    const pod = this.node.pods.find(podId);
    const containers = pod === undefined ? [] : this.node.containers.ofPod(podId);
    return {
      container_id: id,
      container_event_type: types[event],
      created_at: toInt64(this.#time()),
      pod_sandbox_status: pod === undefined ? null : podStatus(pod),
      containers_statuses: containers.map((container) => containerStatus(container, this.images)),
    };
  }

  /** No two are of the same time: who gets them keeps the later one. */
  #time(): bigint {
    const now = BigInt(Date.now()) * 1_000_000n;
    this.#lastTime = now > this.#lastTime ? now : this.#lastTime + 1n;
    return this.#lastTime;
  }
}
