import type { Command } from "commander";
import type { Finding } from "../doctor.js";
import { paint, printable, printJson, styleOfWord } from "./output.js";

interface DoctorOptions {
  config?: string;
  registry: string[];
  registries: boolean;
  json?: boolean;
}

/** `berth doctor`: looks at this host itself, so that it helps where the agent does not start; and asks the agent, where one answers. */
export function addTo(parent: Command): void {
  const collect = (value: string, all: string[]) => [...all, value];
  parent
    .command("doctor")
    .description("say what this host has and lacks, what that costs, and what helps; ends with 1 when pods cannot run")
    .option("--config <FILE>", "the agent's settings")
    .option("--registry <HOST>", "see whether it can be reached, too; may be given again", collect, [])
    .option("--no-registries", "ask no registry but these (else: those that hosts.toml files are for)")
    .option("--json", "print JSON")
    .action(doctor);
}

async function doctor(options: DoctorOptions): Promise<void> {
  // it looks as the agent would, and what root alone may see would be told as missing
  if (process.geteuid?.() !== 0) throw new Error("only root sees what the agent would see: run it as root");
  const { diagnose } = await import("../doctor/diagnose.js");
  const { host, findings } = await diagnose(options);
  if (options.json) printJson(findings);
  else print(findings, host);
  process.exitCode = findings.some(({ severity }) => severity === "error") ? 1 : 0;
}

function print(findings: readonly Finding[], host: string): void {
  process.stdout.write(`${host}\n`);
  for (const { severity, what, consequence, remedy } of findings) {
    const text = printable(`${what}\n         ${consequence}\n         ${remedy}\n`);
    process.stdout.write(`\n${paint(severity.padEnd(7), styleOfWord(severity))}  ${text}`);
  }
  if (findings.length === 0) process.stdout.write("nothing is missing\n");
}
