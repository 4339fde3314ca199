import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { RefusedError, UsageError } from "./failure.js";
import { printJson, shortId } from "./output.js";
import { type PodOrContainer, podOrContainer } from "./pod-or-container.js";

const { ContainerState, PodSandboxState } = runtime.v1;

interface RemoveOptions extends ClientOptions {
  all?: boolean;
  force?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("rm [ID...]")
    .description("remove containers, or pods with all of their containers, by the beginnings of their ids")
    .option("-a, --all", "all pods of this agent")
    .option("-f, --force", "also those that run: they are killed first");
  addClientOptions(command).action(remove);
}

async function remove(ids: string[], options: RemoveOptions): Promise<void> {
  if (options.all && ids.length > 0) throw new UsageError("--all are all pods: no id is taken beside it");
  if (!options.all && ids.length === 0) throw new UsageError("an id is missing, of a pod or a container; or --all");
  await withClient(options, async (client) => {
    const found = options.all ? await allPods(client) : await Promise.all(ids.map((id) => podOrContainer(client, id)));
    // one that may not be removed keeps all of them
    if (!options.force) for (const one of found) checkEnded(one);
    const removed: string[] = [];
    const failures: unknown[] = [];
    // one that cannot be removed holds up none of the others
    for (const one of found) {
      try {
        await removeOne(client, one);
        removed.push(one.id);
        if (!options.json) process.stdout.write(`${one.id}\n`);
      } catch (error) {
        failures.push(error);
      }
    }
    if (options.json) printJson({ removed });
    if (failures.length > 0) throw failures[0];
  });
}

async function removeOne(client: Client, { kind, id }: PodOrContainer): Promise<void> {
  if (kind === "pod") await client.call("RemovePodSandbox", { pod_sandbox_id: id });
  else await client.call("RemoveContainer", { container_id: id });
}

async function allPods(client: Client): Promise<PodOrContainer[]> {
  const { items } = await client.call("ListPodSandbox", {});
  return items.map(({ id, metadata, state }) => ({ kind: "pod", id: id ?? "", name: metadata?.name ?? "", state }));
}

function checkEnded({ kind, id, name, state }: PodOrContainer): void {
  const runs = kind === "pod" ? state === PodSandboxState.SANDBOX_READY : state === ContainerState.CONTAINER_RUNNING;
  if (!runs) return;
  throw new RefusedError(
    `${kind} ${shortId(id)} (${name}) is running: "berth stop" gives its programs time to end, --force does not`,
  );
}
