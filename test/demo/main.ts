/**
 * `npm run demo`: how containers work, one screen a step, each shown from the real system.
 *   npm run demo -- --pause     waits for Enter after each screen
 * Exits with 0 when every step was as described, with 1 when one was not, with 130 when it was interrupted. However it
 * ends, it takes away what it made.
 */
import { createInterface } from "node:readline/promises";
import { showCgroups } from "./cgroups.js";
import { showCopyOnWrite } from "./copy-on-write.js";
import { showImage } from "./image.js";
import { showMetrics } from "./metrics.js";
import { showNamespaces } from "./namespaces.js";
import { showNetwork } from "./network.js";
import { leftovers, showNothingLeft } from "./nothing-left.js";
import { createScreen, type Screen, wantsColour } from "./screen.js";
import { showSecurity } from "./security.js";
import { closeDemo, type Demo, openDemo } from "./setup.js";

const screens = [
  showImage,
  showNamespaces,
  showCgroups,
  showCopyOnWrite,
  showNetwork,
  showSecurity,
  showMetrics,
  showNothingLeft,
];

class Interrupted extends Error {}

let silent = false;
process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const pause = args.includes("--pause");
  if (args.some((arg) => arg !== "--pause")) return complain(`${args.join(" ")}: only --pause is known`);
  if (pause && !process.stdin.isTTY) return complain("--pause waits for a key: standard input must be a terminal");
  if (process.getuid?.() !== 0)
    return complain("namespaces, cgroups and mounts need root; run the command again as root");
  const begun = performance.now();
  const interrupted = interruption();
  const screen = createScreen({
    write: (text) => void (silent || process.stdout.write(text)),
    colour: wantsColour(process.stdout, process.env),
    screens: screens.length,
  });
  const opening = openDemo(screen);
  try {
    await Promise.race([walk(opening, pause), interrupted]);
  } catch (error) {
    silent = true;
    return await cleanUp(opening, error);
  }
  return summarize(screen, (performance.now() - begun) / 1000);
}

async function walk(opening: Promise<Demo>, pause: boolean): Promise<void> {
  const demo = await opening;
  for (const [index, show] of screens.entries()) {
    if (pause && index > 0) await waitForEnter();
    await show(demo);
  }
}

function summarize(screen: Screen, seconds: number): number {
  const { checks, failures } = screen.counts();
  const outcome =
    failures === 0 ? `all ${checks} checks are as described` : `${failures} of ${checks} checks are NOT as described`;
  process.stdout.write(`\n${outcome}; ${seconds.toFixed(1)} s\n`);
  return failures === 0 ? 0 : 1;
}

/** After a failure or Ctrl-C, which the agent and the registry get from the terminal as well. */
async function cleanUp(opening: Promise<Demo>, reason: unknown): Promise<number> {
  const interrupted = reason instanceof Interrupted;
  const text = interrupted
    ? reason.message
    : `failed: ${reason instanceof Error ? (reason.stack ?? reason.message) : reason}`;
  process.stderr.write(`\ndemo: ${text}\ndemo: cleaning up\n`);
  // what fails while it opens takes itself away
  const demo = await opening.catch(() => undefined);
  if (demo !== undefined) {
    const { agent, registry } = demo;
    const log = interrupted ? "" : endOf(agent.logs);
    const pids = [agent.pid, registry.pid];
    // what is left in spite of it is told below
    await closeDemo(demo).catch(() => undefined);
    if (log !== "") process.stderr.write(`demo: the agent's log ends with:\n${log}\n`);
    const left = await leftovers(agent, pids);
    process.stderr.write(
      left.length === 0 ? "demo: nothing is left\n" : `demo: left on the host:\n  ${left.join("\n  ")}\n`,
    );
  }
  return interrupted ? 130 : 1;
}

function endOf(logs: () => string): string {
  try {
    return logs().trimEnd().split("\n").slice(-15).join("\n");
  } catch {
    // the agent's directory is gone already
    return "";
  }
}

/** Rejects at the first signal, or when nobody reads the output any more. Further signals do not stop the cleaning up. */
function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => reject(new Interrupted(`interrupted by ${signal}`)));
    }
    process.stdout.on("error", (error) => reject(new Interrupted(`standard output: ${error.message}`)));
    process.stderr.on("error", () => undefined);
  });
}

async function waitForEnter(): Promise<void> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  // readline takes Ctrl-C for itself
  terminal.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
  // Ctrl-D goes on, too
  await terminal.question("\nEnter goes on. ").catch(() => undefined);
  terminal.close();
}

function complain(text: string): number {
  process.stderr.write(`demo: ${text}\n`);
  return 1;
}
