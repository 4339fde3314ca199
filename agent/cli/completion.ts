import type { Command } from "commander";
import { UsageError } from "./failure.js";

const shells = ["bash", "zsh", "fish"] as const;
type Shell = (typeof shells)[number];

export function addTo(parent: Command): void {
  parent
    .command("completion")
    .argument("<SHELL>", shells.join(", "))
    .description("print a completion script for bash, zsh or fish")
    .action(completion);
}

async function completion(shell: string): Promise<void> {
  if (!isShell(shell)) throw new UsageError(`SHELL: ${JSON.stringify(shell)} is none of ${shells.join(", ")}`);
  const { completionScript } = await import("./completions/script.js");
  process.stdout.write(await completionScript(shell));
}

function isShell(name: string): name is Shell {
  return (shells as readonly string[]).includes(name);
}
