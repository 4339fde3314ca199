/** For people who type a name, or a pod's id for a container's: commands take ids, because only these are one thing's. */
import type { Client } from "./client.js";
import { shortId } from "./output.js";

const mostNamed = 3;

/** What the words that are no ids of what was asked for may mean, as the rest of a sentence; "" when nothing is known. */
export async function meantIds(client: Client, words: readonly string[]): Promise<string> {
  const [{ items: pods }, { containers }] = await Promise.all([
    client.call("ListPodSandbox", {}),
    client.call("ListContainers", {}),
  ]);
  for (const word of words) {
    const named = [
      ...pods.filter(({ metadata }) => metadata?.name === word).map(({ id }) => `pod ${shortId(id ?? "")}`),
      ...containers.filter(({ metadata }) => metadata?.name === word).map(({ id }) => `container ${shortId(id ?? "")}`),
    ];
    if (named.length > 0) return `; it is the name of ${listed(named)}: give the id`;
    const pod = word.length < 4 ? undefined : pods.find(({ id }) => id?.startsWith(word));
    if (pod !== undefined) {
      const inside = containers.filter(({ pod_sandbox_id }) => pod_sandbox_id === pod.id);
      const ids = inside.map(({ id, metadata }) => `${metadata?.name} ${shortId(id ?? "")}`);
      return `; it is a pod${ids.length === 0 ? "" : `, with the containers ${listed(ids)}`}`;
    }
    const container = word.length < 4 ? undefined : containers.find(({ id }) => id?.startsWith(word));
    if (container !== undefined) return `; it is a container, of pod ${shortId(container.pod_sandbox_id ?? "")}`;
  }
  return "";
}

function listed(ids: readonly string[]): string {
  return ids.length <= mostNamed ? ids.join(", ") : `${ids.slice(0, mostNamed).join(", ")}, ...`;
}
