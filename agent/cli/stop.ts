import type { Command } from "commander";
import Long from "long";
import { runtime } from "../../cri-proto/generated/runtime.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { UsageError } from "./failure.js";
import { printJson } from "./output.js";
import { type PodOrContainer, podOrContainer } from "./pod-or-container.js";

const { ContainerState } = runtime.v1;

interface StopOptions extends ClientOptions {
  time: string;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("stop <ID...>")
    .description("stop containers, or pods with all of their containers, by the beginnings of their ids")
    .option("-t, --time <SECONDS>", "how long a program has to end by itself before it is killed", "10");
  addClientOptions(command).action(stop);
}

async function stop(ids: string[], options: StopOptions): Promise<void> {
  if (!/^\d{1,9}$/.test(options.time)) throw new UsageError(`--time ${options.time} is no whole number of seconds`);
  const timeout = Long.fromString(options.time);
  await withClient(options, async (client) => {
    // a word that is wrong stops nothing
    const found = await Promise.all(ids.map((id) => podOrContainer(client, id)));
    for (const one of found) {
      await stopOne(client, one, timeout);
      if (!options.json) process.stdout.write(`${one.id}\n`);
    }
    if (options.json) printJson({ stopped: found.map(({ id }) => id) });
  });
}

async function stopOne(client: Client, { kind, id }: PodOrContainer, timeout: Long): Promise<void> {
  if (kind === "container") {
    await client.call("StopContainer", { container_id: id, timeout });
    return;
  }
  // as the kubelet does: StopPodSandbox itself gives no time
  const running = { pod_sandbox_id: id, state: { state: ContainerState.CONTAINER_RUNNING } };
  const { containers } = await client.call("ListContainers", { filter: running });
  await Promise.all(
    containers.map((container) => client.call("StopContainer", { container_id: container.id ?? "", timeout })),
  );
  await client.call("StopPodSandbox", { pod_sandbox_id: id });
}
