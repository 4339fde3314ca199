import type { Command } from "commander";
import { adjustedAnnotation } from "../../sandbox/adjust-spec.js";
import type { ContainerConfig } from "../../sandbox/container.js";
import type { PodSandboxConfig } from "../../sandbox/pod.js";
import type { OciSpec } from "../../sandbox/spec/oci.js";
import { addClientOptions, type ClientOptions, withClient } from "./client.js";
import { fact, type Section, type Subject } from "./explain/fact.js";
import { deviceFacts, fileFacts } from "./explain/files.js";
import { limitFacts } from "./explain/limits.js";
import { namespaceFacts } from "./explain/namespaces.js";
import { privilegeFacts, processFacts } from "./explain/process.js";
import { printable, printJson } from "./output.js";

export function addTo(parent: Command): void {
  const command = parent
    .command("explain")
    .description(
      "tell every isolation and limit of a container: from which field it came, which system call has set it",
    )
    .argument("CONTAINER", "a container's id, or the beginning of it");
  addClientOptions(command).action(explain);
}

async function explain(id: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const { info } = await client.call("ContainerStatus", { container_id: id, verbose: true });
    const container = JSON.parse(info["info"] ?? "{}") as {
      sandboxID: string;
      runtimeSpec: OciSpec;
      config: ContainerConfig;
    };
    const pod = await client.call("PodSandboxStatus", { pod_sandbox_id: container.sandboxID, verbose: true });
    const { config: podConfig } = JSON.parse(pod.info["info"] ?? "{}") as { config: PodSandboxConfig };
    const sections = explained({ spec: container.runtimeSpec, config: container.config, podConfig });
    if (options.json) printJson(sections);
    else print(sections);
  });
}

/** In the order in which a container is made. */
export function explained(subject: Subject): Section[] {
  return [
    namespaceFacts(subject),
    fileFacts(subject),
    deviceFacts(subject),
    limitFacts(subject),
    privilegeFacts(subject),
    processFacts(subject),
    ...adjustments(subject),
  ];
}

/** What modules of the administrator's have changed of what is told above. */
function adjustments({ spec }: Subject): Section[] {
  const changed = JSON.parse(spec.annotations?.[adjustedAnnotation] ?? "[]") as string[];
  if (changed.length === 0) return [];
  const facts = changed.map((text) => fact(text, "spec-hooks of Berth's configuration", "as it is told above"));
  return [{ title: "Adjusted: what differs from the request", facts }];
}

function print(sections: readonly Section[]): void {
  for (const [index, { title, facts }] of sections.entries()) {
    process.stdout.write(`${index === 0 ? "" : "\n"}${title}\n`);
    for (const { what, from, by } of facts) {
      process.stdout.write(printable(`  ${what}\n    from ${from}\n    by   ${by}\n`));
    }
  }
}
