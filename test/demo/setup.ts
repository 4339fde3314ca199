/** What all screens stand on: an agent on private paths, a registry on loopback, and an image of four layers in it. */
import { readFileSync, writeFileSync } from "node:fs";
import { native } from "../../native/binding.js";
import { tableName } from "../../sandbox/network/nftables.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { type BuiltImage, buildBusyboxImage, pushImage } from "../support/image-builder.js";
import { startRegistry, type TestRegistry } from "../support/registry.js";
import type { Screen } from "./screen.js";

export interface Demo {
  screen: Screen;
  agent: TestAgent;
  registry: TestRegistry;
  image: BuiltImage;
  /** the reference to pull */
  imageName: string;
  /** net.ipv4.ip_forward as it was before: an agent sets it to 1 */
  forwardingBefore: string;
}

/** In layer 3: what the network screen fetches. */
export const page = "<h1>Hello from another pod</h1>\n";

/** In layer 4: what the copy-on-write screen changes. */
export const notesPath = "/opt/notes.txt";
export const notes = "This line is in layer 4 of the image.\n";

export const forwardingFile = "/proc/sys/net/ipv4/ip_forward";

export async function openDemo(screen: Screen): Promise<Demo> {
  const image = await buildBusyboxImage({
    layers: [[{ path: "var/www/index.html", content: page }], [{ path: notesPath.slice(1), content: notes }]],
  });
  const forwardingBefore = readFileSync(forwardingFile, "utf8").trim();
  const registry = await startRegistry();
  try {
    await pushImage(registry.url, "demo/four-layers", "1", image);
    const agent = await startAgent({ flags: { "log-level": "info" }, catchesSignals: true });
    return { screen, agent, registry, image, imageName: `${registry.host}/demo/four-layers:1`, forwardingBefore };
  } catch (error) {
    await registry.stop();
    throw error;
  }
}

/** Ends both, whatever state the pods are in. Rejects when the agent did not leave the machine clean by itself. */
export async function closeDemo({ agent, registry, forwardingBefore }: Demo): Promise<void> {
  try {
    await agent.stop();
  } finally {
    await registry.stop();
    await restoreForwarding(forwardingBefore);
  }
}

/** Other agents of this machine, of tests or of its own, need forwarding as well: then it stays. */
async function restoreForwarding(before: string): Promise<void> {
  if (readFileSync(forwardingFile, "utf8").trim() === before) return;
  const others = (await tableNames()).some((name) => name.startsWith(tableName("")));
  if (!others) writeFileSync(forwardingFile, before);
}

/** The names of all nftables tables of the host. */
export async function tableNames(): Promise<string[]> {
  const answer = await native.runNftables(JSON.stringify({ nftables: [{ list: { tables: null } }] }));
  const { nftables } = JSON.parse(answer) as { nftables: { table?: { name: string } }[] };
  return nftables.flatMap(({ table }) => table?.name ?? []);
}
