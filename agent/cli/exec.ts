import type { Command } from "commander";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { UsageError, withProgramsCode } from "./failure.js";
import { passStreams } from "./streams/remote-command.js";

interface ExecOptions extends ClientOptions {
  stdin?: boolean;
  tty?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("exec <CONTAINER> <CMD...>")
    .description("run a program in a container; ends with its exit code")
    .option("-i, --stdin", "pass standard input to it")
    .option("-t, --tty", "give it a terminal")
    .passThroughOptions();
  addClientOptions(command, { json: false }).action(exec);
}

async function exec(container: string, words: string[], options: ExecOptions): Promise<void> {
  const { stdin = false, tty = false } = options;
  if (words[0] !== "--" && words[0]?.startsWith("-")) {
    throw new UsageError(`options come before the container: berth exec ${words[0]} CONTAINER CMD...`);
  }
  // kubectl's users write it before the program
  const cmd = words[0] === "--" ? words.slice(1) : words;
  await withProgramsCode(async () => {
    const { url } = await withClient(options, (client) =>
      client.call("Exec", { container_id: container, cmd, tty, stdin, stdout: true, stderr: !tty }),
    );
    return passStreams(url, { stdin, tty });
  });
}
