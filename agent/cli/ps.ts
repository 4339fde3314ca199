import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { ago, jsonOptions, printJson, printTable, shortId } from "./output.js";

const { ContainerState, ListContainersResponse } = runtime.v1;

interface PsOptions extends ClientOptions {
  all?: boolean;
}

export function addTo(parent: Command): void {
  addClientOptions(parent.command("ps").description("list containers"))
    .option("-a, --all", "those that have ended, too")
    .action(ps);
}

async function ps(options: PsOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ListContainers", {});
    const ended = (state: runtime.v1.ContainerState | null | undefined) => state === ContainerState.CONTAINER_EXITED;
    answer.containers = answer.containers.filter(({ state }) => options.all || !ended(state));
    if (options.json) return printJson(ListContainersResponse.toObject(answer, jsonOptions)["containers"]);
    const rows = answer.containers.map(({ id, pod_sandbox_id, metadata, image, state, created_at }) => [
      shortId(id ?? ""),
      metadata?.name ?? "",
      shortId(pod_sandbox_id ?? ""),
      image?.image ?? "",
      (ContainerState[state ?? 0] ?? "").replace("CONTAINER_", "").toLowerCase(),
      created_at ? ago(created_at) : "",
    ]);
    printTable(["CONTAINER ID", "NAME", "POD ID", "IMAGE", "STATE", "CREATED"], rows);
  });
}
