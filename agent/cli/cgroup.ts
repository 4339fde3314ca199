import { type Command, InvalidArgumentError } from "commander";
import type { Hierarchy } from "../../sandbox/cgroup/manager.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { parseByteQuantity } from "../../sandbox/writable-limit.js";
import { type CgroupValue, cgroupValues } from "./cgroup-values.js";
import { addClientOptions, type Client, type ClientOptions, withClient } from "./client.js";
import { memoryNow, sentences, whatIf } from "./memory-what-if.js";
import { printable, printJson, printTable } from "./output.js";
import { podOrContainer } from "./pod-or-container.js";

interface Place {
  name: string;
  path: string;
}

export function addTo(parent: Command): void {
  const command = parent
    .command("cgroup")
    .description("tell a pod's or a container's limits, usage and pressure, and in which file each stands")
    .argument("ID", "a beginning of a pod's or a container's id")
    .option(
      "--memory-limit <SIZE>",
      'what this limit ("64Mi") would mean by what is in use now: what would be taken back, and what would not fit',
      toBytes,
    );
  addClientOptions(command).action(cgroup);
}

interface CgroupOptions extends ClientOptions {
  memoryLimit?: number;
}

function toBytes(text: string): number {
  const bytes = parseByteQuantity(text);
  if (bytes === undefined) throw new InvalidArgumentError(`"${text}" is no size, as 1000000 or "64Mi"`);
  return bytes;
}

async function cgroup(id: string, options: CgroupOptions): Promise<void> {
  await withClient(options, async (client) => {
    const places = await placesOf(client, id);
    // files are the kernel's own: what is read here is what is true now
    const { hierarchies } = openCgroupManager();
    if (options.memoryLimit !== undefined) {
      tellWhatIf(hierarchies, places, options.memoryLimit, options.json);
      return;
    }
    const told = places.map((place) => ({ ...place, values: cgroupValues(hierarchies, place.path) }));
    if (options.json) return printJson(told);
    for (const [index, { name, path, values }] of told.entries()) {
      process.stdout.write(`${index === 0 ? "" : "\n"}${name}  ${path}\n`);
      printValues(values);
    }
  });
}

function tellWhatIf(
  hierarchies: readonly Hierarchy[],
  places: readonly Place[],
  limitBytes: number,
  json: boolean | undefined,
): void {
  const told = places.flatMap((place) => {
    const now = memoryNow(hierarchies, place.path);
    return now === undefined ? [] : [{ ...place, now, whatIf: whatIf(now, limitBytes) }];
  });
  if (json) printJson(told);
  else
    for (const one of told) {
      const lines = sentences(one.now, one.whatIf).map((sentence) => `  ${sentence}\n`);
      process.stdout.write(printable(`${one.name}  ${one.path}\n${lines.join("")}`));
    }
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
async function placesOf(client: Client, beginning: string): Promise<Place[]> {
  const { kind, id, name } = await podOrContainer(client, beginning);
  if (kind === "container") return [await placeOf(client, id, name)];
  const { info } = await client.call("PodSandboxStatus", { pod_sandbox_id: id, verbose: true });
  const { monitorCgroup, cgroupParent } = JSON.parse(info["info"] ?? "{}") as Record<string, string>;
  const places: Place[] = [
    { name: `parent of pod ${name}`, path: cgroupParent ?? "" },
    { name: "monitor", path: monitorCgroup ?? "" },
  ];
  const { containers } = await client.call("ListContainers", { filter: { pod_sandbox_id: id } });
  for (const one of containers) {
    if (one.state === 2 || !one.id) continue;
    places.push(await placeOf(client, one.id, one.metadata?.name ?? ""));
  }
  return places;
}

async function placeOf(client: Client, id: string, name: string): Promise<Place> {
  const { info } = await client.call("ContainerStatus", { container_id: id, verbose: true });
  const { cgroupPath } = JSON.parse(info["info"] ?? "{}") as { cgroupPath: string };
  return { name: `container ${name}`, path: cgroupPath };
}
