import type { Command } from "commander";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { NotKnownError, UsageError, unlessUnknown } from "./failure.js";
import { mapNamespaces, type PodNamespaces, type PodProcesses, readChildren, readInodes } from "./namespaces/map.js";
import { dotOf, svgOf } from "./namespaces/picture.js";
import { printTables, printTrees } from "./namespaces/text.js";
import { printJson } from "./output.js";

interface Options extends ClientOptions {
  tree?: boolean;
  svg?: boolean;
  dot?: boolean;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("namespaces [POD]")
    .description("tell which processes of a pod, or of all pods, share which namespaces")
    .option("--tree", "a branch for each namespace")
    .option("--svg", "a picture")
    .option("--dot", "a graph, for Graphviz");
  addClientOptions(command).action(namespaces);
}

async function namespaces(pod: string | undefined, options: Options): Promise<void> {
  const forms = (["tree", "svg", "dot", "json"] as const).filter((form) => options[form]);
  if (forms.length > 1) throw new UsageError(`--${forms.join(" and --")} are different things`);
  await withClient(options, async (client) => {
    const pods = await Promise.all((await podIds(client, pod)).map((id) => processesOf(client, id)));
    const map = mapNamespaces(
      pods.filter((found) => found.processes.length > 0),
      // on the host, as this command is; the first process there may not be looked at everywhere
      readInodes(process.pid) ?? {},
    );
    print(map, forms[0]);
  });
}

function print(map: readonly PodNamespaces[], form: "tree" | "svg" | "dot" | "json" | undefined): void {
  if (form === "json") printJson(map);
  else if (form === "tree") printTrees(map);
  else if (form !== undefined) process.stdout.write(form === "svg" ? svgOf(map) : dotOf(map));
  else printTables(map);
}

/** Pods that run, or the one that the argument names by its id's beginning or by its name. */
async function podIds(client: Client, pod: string | undefined): Promise<string[]> {
  const { items } = await client.call("ListPodSandbox", {});
  const found = items.filter(({ id, metadata }) => pod === undefined || id?.startsWith(pod) || metadata?.name === pod);
  if (pod !== undefined && found.length === 0) throw new NotKnownError(`there is no pod ${pod}`);
  return found.map(({ id }) => id ?? "");
}

async function processesOf(client: Client, id: string): Promise<PodProcesses> {
  // pods and containers may go between two calls
  const pod = await unlessUnknown(client.call("PodSandboxStatus", { pod_sandbox_id: id, verbose: true }));
  const { name, namespace } = pod?.status?.metadata ?? {};
  const monitor = pidIn(pod?.info);
  const { containers } = await client.call("ListContainers", { filter: { pod_sandbox_id: id } });
  const named = await Promise.all(
    containers.map(async ({ id: container_id, metadata }) => {
      const status = client.call("ContainerStatus", { container_id: container_id ?? "", verbose: true });
      const pid = pidIn((await unlessUnknown(status))?.info);
      return { name: metadata?.name ?? "", kind: "container" as const, pid };
    }),
  );
  const known = new Set(named.map(({ pid }) => pid));
  const others = (monitor === 0 ? [] : readChildren(monitor))
    .filter(({ pid }) => !known.has(pid))
    .map(({ pid, command }) => ({ name: command, kind: "other" as const, pid }));
  const all = [{ name: "monitor", kind: "monitor" as const, pid: monitor }, ...named, ...others];
  const processes = all.flatMap((process) => {
    const inodes = process.pid === 0 ? undefined : readInodes(process.pid);
    return inodes === undefined ? [] : [{ ...process, inodes }];
  });
  return { id, name: name ?? "", namespace: namespace ?? "", processes };
}

/** 0: it does not run. */
function pidIn(info: { [name: string]: string } | undefined): number {
  return (JSON.parse(info?.["info"] ?? "{}") as { pid?: number }).pid ?? 0;
}
