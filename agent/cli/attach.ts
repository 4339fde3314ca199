import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { withProgramsCode } from "./failure.js";
import { passStreams } from "./streams/remote-command.js";

interface AttachOptions extends ClientOptions {
  stdin?: boolean;
  tty?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("attach <CONTAINER>")
    .description("show a container's output from now on, until it ends")
    .option("-i, --stdin", "pass standard input to it")
    .option("-t, --tty", "the container has a terminal: pass keys and sizes");
  addClientOptions(command, { json: false }).action(attach);
}

async function attach(container: string, options: AttachOptions): Promise<void> {
  const { stdin = false, tty = false } = options;
  await withProgramsCode(async () => {
    const { url } = await withClient(options, (client) =>
      client.call("Attach", { container_id: container, tty, stdin, stdout: true, stderr: !tty }),
    );
    return passStreams(url, { stdin, tty });
  });
}
