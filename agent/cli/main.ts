#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=2
/**
 * `berth`: finds the command and loads that one only. The flags above are for the agent: one malloc arena and a small
 * young generation keep it near 75 MiB under load, where it would be twice that. Code is optimized for speed, not for size:
 * an exec takes an eighth less of the agent's processor time so, for 10 to 30 MiB that are given back after the load.
 */
import { closest } from "../configuration/closest.js";
import { commandNames, commandTree, familiarCommand, foreignCommands } from "./commands.js";
import { exitCodeOf, exitCodes, sentenceOf, UsageError } from "./failure.js";
import { endWithNpm } from "./npm-parent.js";

async function main(words: readonly string[]): Promise<void> {
  // commander's own help knows one word alone
  const argv = words[0] === "help" && words.length > 2 ? [...words.slice(1), "--help"] : words;
  if (foreignCommands.includes(argv[0] ?? "")) {
    throw new UsageError(
      `"${argv[0]}" is no command: pods and containers are their kubelet's; by hand, "berth run" makes one for a program, "berth stop" and "berth rm" end what is there, and crictl does all`,
    );
  }
  const meant = familiarCommand(argv[0]);
  if (meant !== undefined) throw new UsageError(`"${argv[0]}" is no command; "berth ${meant}" may be meant`);
  const [first = "--help", second] = argv;
  if (first === "-v") throw new UsageError('"-v" is no option; "berth --version" may be meant');
  if (first.startsWith("-") && !["-h", "--help", "-V", "--version"].includes(first)) {
    const near = closest(first, ["--help", "--version"]);
    throw new UsageError(
      near === undefined
        ? `"${first}" is no option of berth itself: a command's options come after its name`
        : `"${first}" is no option; "berth ${near}" may be meant`,
    );
  }
  if (first === "help" && second !== undefined && !commandNames.includes(second)) {
    const near = closest(second, commandNames);
    throw new UsageError(`"${second}" is no command${near === undefined ? "" : `; "berth ${near}" may be meant`}`);
  }
  endWithNpm();
  const program = await commandTree(argv[0] === "help" ? argv[1] : argv[0]);
  if (argv.length === 0) program.help();
  await program.parseAsync(argv, { from: "user" });
}

/** What shells show for a program that writes to a pipe nobody reads: Node ignores the signal. */
const exitOfBrokenPipe = 128 + 13;

// "berth ps | head", a full disk, a terminal that was closed: a command that has something to take away at its end is told
// as by Ctrl-C
process.stdout.once("error", (error: NodeJS.ErrnoException) => {
  const isClosedPipe = error.code === "EPIPE";
  if (!isClosedPipe) process.stderr.write(`berth: standard output: ${error.message}\n`);
  process.stdout.on("error", () => undefined);
  if (process.listenerCount("SIGTERM") === 0) process.exit(isClosedPipe ? exitOfBrokenPipe : exitCodes.failed);
  process.kill(process.pid, "SIGTERM");
});
// there is nobody to tell
process.stderr.on("error", () => undefined);

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`berth: ${sentenceOf(error)}\n`);
  process.exit(exitCodeOf(error));
});
