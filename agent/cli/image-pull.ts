import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { printJson } from "./output.js";
import { openPullView } from "./pull-progress.js";

interface PullOptions extends ClientOptions {
  quiet?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("pull <IMAGE>")
    .description("pull an image from its registry; how far it is goes to stderr, the image's id to stdout")
    .option("-q, --quiet", "print the image's id only");
  addClientOptions(command).action(pull);
}

async function pull(image: string, options: PullOptions): Promise<void> {
  await withClient(options, async (client) => {
    const view = options.quiet || options.json ? undefined : openPullView(process.stderr);
    let image_ref = "";
    try {
      for await (const progress of client.stream("PullWithProgress", { image })) {
        view?.show(progress.layers);
        image_ref = progress.image_ref ?? "";
      }
    } finally {
      view?.end();
    }
    if (options.json) printJson({ image_ref });
    else process.stdout.write(`${image_ref}\n`);
  });
}
