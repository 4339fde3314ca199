import type { Command } from "commander";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { ago, jsonOptions, printJson, printTable, shortId } from "./output.js";

const { ListPodSandboxResponse, PodSandboxState } = runtime.v1;

export function addTo(parent: Command): void {
  addClientOptions(parent.command("pods").description("list pods")).action(pods);
}

async function pods(options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const answer = await client.call("ListPodSandbox", {});
    if (options.json) return printJson(ListPodSandboxResponse.toObject(answer, jsonOptions)["items"]);
    const rows = answer.items.map(async ({ id = "", metadata, state, created_at }) => {
      // a pod may go between the two calls
      const status = await client.call("PodSandboxStatus", { pod_sandbox_id: id ?? "" }).catch(() => null);
      return [
        shortId(id ?? ""),
        metadata?.name ?? "",
        metadata?.namespace ?? "",
        state === PodSandboxState.SANDBOX_NOTREADY ? "not ready" : "ready",
        status?.status?.network?.ip ?? "",
        created_at ? ago(created_at) : "",
      ];
    });
    printTable(["POD ID", "NAME", "NAMESPACE", "STATE", "ADDRESS", "CREATED"], await Promise.all(rows));
  });
}
