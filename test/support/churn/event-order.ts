/** What GetContainerEvents may tell of one pod or container: each of its events once, and in the order of its life. */

import type { Client } from "../../../agent/cli/client.js";
import { runtime } from "../../../cri-proto/generated/runtime.js";

const { ContainerEventType: Type } = runtime.v1;

export class EventOrder {
  readonly wrong: string[] = [];
  told = 0;

  /** Listens to an agent until it ends. */
  async listen(client: Client): Promise<void> {
    const lives = new Map<string, runtime.v1.ContainerEventType[]>();
    try {
      for await (const event of client.stream("GetContainerEvents", {})) {
        this.told += 1;
        const { container_id: id, container_event_type: type } = event;
        const before = lives.get(id) ?? [];
        lives.set(id, [...before, type]);
        const words = [...before, type].map((one) => Type[one]?.split("_")[1]).join(", ");
        if (type <= (before.at(-1) ?? -1)) this.wrong.push(`${id}: ${words}`);
        // what was there before this agent may have ended unheard
        const wasWhole = before[0] === Type.CONTAINER_CREATED_EVENT;
        if (type === Type.CONTAINER_DELETED_EVENT && wasWhole && !before.includes(Type.CONTAINER_STOPPED_EVENT)) {
          this.wrong.push(`${id}: ${words}`);
        }
      }
    } catch {
      // the agent has ended
    }
  }
}
