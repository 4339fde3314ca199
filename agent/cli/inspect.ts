import { resolve } from "node:path";
import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { UsageError } from "./failure.js";

interface Options extends ClientOptions {
  spec?: boolean;
  bundle?: string;
  unmount?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("inspect [CONTAINER]")
    .description(
      "print a container's OCI spec, or write a bundle like it for another OCI runtime (runc run -b DIR NAME)",
    )
    .option("--spec", "print the spec; the default")
    .option("--bundle <DIR>", "write config.json and mount the root file system in DIR, which is empty or not there")
    .option("--unmount", "with --bundle: unmount and remove a bundle that was written before");
  addClientOptions(command, { json: false }).action(inspect);
}

async function inspect(container: string | undefined, options: Options): Promise<void> {
  const { bundle, unmount } = options;
  if (bundle === undefined && unmount) throw new UsageError("--unmount needs --bundle DIR");
  if (bundle !== undefined && options.spec) throw new UsageError("--spec and --bundle are two different things");
  await withClient(options, async (client) => {
    if (bundle !== undefined && unmount) {
      await client.call("UnmountBundle", { directory: resolve(bundle) });
      return;
    }
    if (container === undefined) throw new UsageError("which container? Give its id, or the beginning of it");
    if (bundle === undefined) {
      const { spec } = await client.call("InspectContainer", { container_id: container });
      process.stdout.write(`${spec}\n`);
      return;
    }
    await client.call("MountBundle", { container_id: container, directory: resolve(bundle) });
    process.stdout.write(
      `${resolve(bundle)}: run it with "runc run -b ${bundle} NAME", take it away with "berth inspect --bundle ${bundle} --unmount"\n`,
    );
  });
}
