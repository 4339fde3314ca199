import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import type { ImageDefaults } from "../image-config.js";

/**
 * What is executed. A command of the request takes the place of the image's Entrypoint and drops the image's Cmd, too;
 * args take the place of Cmd alone.
 */
export function processArgs(config: ContainerConfig, image: ImageDefaults): string[] {
  const command = config.command ?? [];
  const args = config.args ?? [];
  checkNoNul(command, "config.command");
  checkNoNul(args, "config.args");
  const chosen =
    command.length > 0 ? [...command, ...args] : [...image.Entrypoint, ...(args.length > 0 ? args : image.Cmd)];
  const [program] = chosen;
  if (program === undefined) {
    throw new InvalidArgumentError(
      "config.command: there is nothing to run: neither config.command, config.args nor the image's Entrypoint and Cmd say it",
    );
  }
  if (program === "") throw new InvalidArgumentError("config.command: the name of the program to run is empty");
  return chosen;
}

function checkNoNul(words: readonly string[], field: string): void {
  const bad = words.findIndex((word) => word.includes("\0"));
  if (bad >= 0) throw new InvalidArgumentError(`${field}[${bad}]: it holds a NUL byte`);
}
