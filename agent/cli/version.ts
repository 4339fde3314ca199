import type { Command } from "commander";
import { runtimeName, runtimeVersion } from "../version.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { sentenceOf } from "./failure.js";
import { printJson } from "./output.js";

const patienceMs = 2_000;

export function addTo(parent: Command): void {
  const command = parent.command("version").description("tell the versions of this command and of the agent");
  addClientOptions(command).action(version);
}

async function version(options: ClientOptions): Promise<void> {
  let why = "";
  const agent = await withClient(options, (client) => client.call("Version", {}, patienceMs)).catch(
    (error: unknown) => {
      why = sentenceOf(error);
      return null;
    },
  );
  if (options.json) {
    return printJson({
      command: runtimeVersion,
      agent: agent?.runtime_version ?? null,
      cri: agent?.runtime_api_version ?? null,
    });
  }
  process.stdout.write(`${runtimeName} ${runtimeVersion}\n`);
  process.stdout.write(
    agent === null ? `${why}\n` : `agent ${agent.runtime_version}, CRI ${agent.runtime_api_version}\n`,
  );
}
