import type { Command } from "commander";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { type CgroupValue, cgroupValues } from "./cgroup-values.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { printJson, printTable } from "./output.js";

interface Place {
  name: string;
  path: string;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("cgroup")
    .description("tell a pod's or a container's limits, usage and pressure, and in which file each stands")
    .argument("ID", "a beginning of a pod's or a container's id");
  addClientOptions(command).action(cgroup);
}

async function cgroup(id: string, options: ClientOptions): Promise<void> {
  await withClient(options, async (client) => {
    const places = await placesOf(client, id);
    // files are the kernel's own: what is read here is what is true now
    const { hierarchies } = openCgroupManager();
    const told = places.map((place) => ({ ...place, values: cgroupValues(hierarchies, place.path) }));
    if (options.json) return printJson(told);
    for (const [index, { name, path, values }] of told.entries()) {
      process.stdout.write(`${index === 0 ? "" : "\n"}${name}  ${path}\n`);
      printValues(values);
    }
  });
}

function printValues(values: readonly CgroupValue[]): void {
  if (values.length === 0) process.stdout.write("  (it is not there any more)\n");
  else
    printTable(
      ["  WHAT", "VALUE", "FILE"],
      values.map(({ what, value, file }) => [`  ${what}`, value, file]),
    );
}

/** A container's one; of a pod the parent, the monitor's and those of the containers that have not ended. */
async function placesOf(client: Client, id: string): Promise<Place[]> {
  const { containers } = await client.call("ListContainers", {});
  const container = containers.find((one) => one.id?.startsWith(id));
  if (container?.id) return [await placeOf(client, container.id, container.metadata?.name ?? "")];
  const { status, info } = await client.call("PodSandboxStatus", { pod_sandbox_id: id, verbose: true });
  const { monitorCgroup, cgroupParent } = JSON.parse(info["info"] ?? "{}") as Record<string, string>;
  const places: Place[] = [
    { name: `parent of pod ${status?.metadata?.name}`, path: cgroupParent ?? "" },
    { name: "monitor", path: monitorCgroup ?? "" },
  ];
  for (const one of containers) {
    if (one.pod_sandbox_id !== status?.id || one.state === 2 || !one.id) continue;
    places.push(await placeOf(client, one.id, one.metadata?.name ?? ""));
  }
  return places;
}

async function placeOf(client: Client, id: string, name: string): Promise<Place> {
  const { info } = await client.call("ContainerStatus", { container_id: id, verbose: true });
  const { cgroupPath } = JSON.parse(info["info"] ?? "{}") as { cgroupPath: string };
  return { name: `container ${name}`, path: cgroupPath };
}
