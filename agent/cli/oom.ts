import type { Command } from "commander";
import { bootMs, kernelLog } from "../kernel-log.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { NotKnownError } from "./failure.js";
import { type OomReport, oomReports } from "./oom-reports.js";
import { printable, printJson, printTable, shortId } from "./output.js";
import { size } from "./usage.js";

interface OomOptions extends ClientOptions {
  all?: boolean;
}

/** What is known of a report's container; empty: it is none that the agent knows. */
interface Told extends OomReport {
  pod: string;
  container: string;
  containerId: string;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("oom")
    .description("tell which processes of containers the kernel killed for memory, and among which it chose")
    .argument("[ID]", "a beginning of a pod's or a container's id; all containers when there is none")
    .option("--all", "those of other programs, and of containers that are gone, too");
  addClientOptions(command).action(oom);
}

async function oom(id: string | undefined, options: OomOptions): Promise<void> {
  await withClient(options, async (client) => {
    const owners = await ownersOf(client);
    if (id !== undefined && !owners.some((owner) => owner.containerId.startsWith(id) || owner.podId.startsWith(id))) {
      throw new NotKnownError(`no pod or container is known whose id begins with "${id}"`);
    }
    const told: Told[] = [];
    const reports = oomReports(kernelLog(), bootMs());
    for (const report of reports) {
      const owner = owners.find(({ containerId }) => report.cgroup.split("/").includes(containerId));
      if (owner === undefined && (id !== undefined || !options.all)) continue;
      if (id !== undefined && !owner?.containerId.startsWith(id) && !owner?.podId.startsWith(id)) continue;
      const { pod = "", container = "", containerId = "" } = owner ?? {};
      told.push({ ...report, pod, container, containerId });
    }
    if (options.json) return printJson(told);
    if (told.length === 0) {
      const others =
        id === undefined && reports.length > 0
          ? `; --all tells of ${reports.length}, other programs' or of containers that are gone`
          : "";
      process.stdout.write(`the kernel's log tells of none (it keeps the latest messages only)${others}\n`);
    }
    for (const [index, report] of told.entries()) {
      if (index > 0) process.stdout.write("\n");
      print(report);
    }
  });
}

function print({ timeMs, victim, tasks, limited, cgroup, ...report }: Told): void {
  const whose = report.containerId === "" ? cgroup : `${report.pod} ${report.container} ${shortId(report.containerId)}`;
  const lines = [
    `${new Date(timeMs).toISOString()}  ${whose}`,
    `  killed: ${victim.name} (${victim.pid}, uid ${victim.uid}), when ${report.askedBy} asked for more`,
    limited === "" ? "  the machine had no more memory" : `  the limit of ${limited}: ${used(report)}`,
  ];
  process.stdout.write(printable(`${lines.join("\n")}\n`));
  printTable(
    ["  PID", "UID", "RSS", "ANONYMOUS", "SWAP", "ADJUSTMENT", "NAME"],
    tasks.map((task) => [
      `${task.pid === victim.pid ? "* " : "  "}${task.pid}`,
      String(task.uid),
      size(task.rssBytes),
      size(task.anonBytes),
      size(task.swapBytes),
      String(task.oomScoreAdj),
      task.name,
    ]),
  );
}

function used({ usageBytes, limitBytes, failures }: Pick<OomReport, "usageBytes" | "limitBytes" | "failures">): string {
  const met = failures ? `, met ${failures} times so far` : "";
  return `${size(usageBytes)} of ${size(limitBytes)} in use${met}`;
}

interface Owner {
  pod: string;
  podId: string;
  container: string;
  containerId: string;
}

async function ownersOf(client: Client): Promise<Owner[]> {
  const { containers } = await client.call("ListContainers", {});
  const { items } = await client.call("ListPodSandbox", {});
  const pods = new Map(items.map(({ id, metadata }) => [id ?? "", `${metadata?.namespace}/${metadata?.name}`]));
  return containers.map(({ id, pod_sandbox_id: podId, metadata }) => ({
    pod: pods.get(podId ?? "") ?? "",
    podId: podId ?? "",
    container: metadata?.name ?? "",
    containerId: id ?? "",
  }));
}
