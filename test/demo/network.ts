/** The network of a pod: a veth pair, a bridge, and a page that one pod fetches from another. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type LinkStatistics, native } from "../../native/binding.js";
import * as workload from "../support/workload.js";
import { type DemoContainer, type DemoPod, exec, removePods, runContainer, shortId, startPod } from "./pods.js";
import { type Demo, page } from "./setup.js";

/** One pod's cable, seen from both its ends. */
interface Cable {
  pod: string;
  address: string;
  /** "eth0" in the pod */
  inside: { index: string; peer: string };
  hostName: string;
  outside: { index: string; peer: string; bridge: string };
}

export async function showNetwork(demo: Demo): Promise<void> {
  const { agent, screen } = demo;
  screen.title(
    "The network",
    "A pod's network namespace starts with nothing but a loopback interface. Berth makes a veth pair: two interfaces " +
      "joined like the ends of a cable. One end becomes eth0 in the pod, the other is plugged into a bridge on the host, " +
      "which passes frames between its ports like a switch.",
  );
  const server = await startPod(demo, "server");
  const web = await runContainer(demo, server, "web", { command: ["httpd", "-f", "-p", "80", "-h", "/var/www"] });
  const client = await startPod(demo, "client");
  const browser = await runContainer(demo, client, "browser", { command: ["sleep", "1000"] });
  const cables = [await cableOf(demo, server, web), await cableOf(demo, client, browser)];

  screen.say(
    "Each end knows its own index and its peer's. Both namespaces count for themselves; the numbers must match crosswise.",
  );
  screen.table(
    ["pod", "address", "eth0: index", "its peer", "host's end", "index", "its peer", "bridge"],
    cables.map(({ pod, address, inside, hostName, outside }) => [
      ...[pod, address, inside.index, inside.peer],
      ...[hostName, outside.index, outside.peer, outside.bridge],
    ]),
    "ifindex and iflink in /sys/class/net/eth0 (in the pod), /sys/class/net/NAME (on the host)",
  );
  const { bridge } = agent.slot;
  const ports = readdirSync(`/sys/class/net/${bridge}/brif`);
  const addresses = (await native.listAddresses({})).filter(({ name }) => name === bridge);
  const gateway = addresses[0]?.address ?? "";
  const { stdout: routes } = await exec(demo, browser, ["ip", "route"]);
  screen.values([
    ["ports of the bridge", ports.join(" "), `/sys/class/net/${bridge}/brif; or: ip link show master ${bridge}`],
    ["its address", gateway, `rtnetlink; or: ip addr show ${bridge}`],
  ]);
  for (const { pod, inside, hostName, outside } of cables) {
    screen.check(
      `${pod}: eth0 and ${hostName} are the ends of one pair`,
      inside.index === outside.peer && inside.peer === outside.index && inside.index !== "",
    );
    screen.check(`${pod}: its end is a port of the bridge`, outside.bridge === bridge && ports.includes(hostName));
  }
  screen.check(
    "the bridge's address is the pods' default route",
    routes.includes(`default via ${gateway.split("/")[0]} dev eth0`),
  );

  await showFetch(demo, browser, cables);
  await removePods(demo, [server, client]);
}

async function showFetch(demo: Demo, browser: DemoContainer, [server, client]: Cable[]): Promise<void> {
  const { screen } = demo;
  if (server === undefined || client === undefined) throw new Error("two pods are needed");
  screen.say(
    `The pod ${client.pod} fetches a page from the pod ${server.pod}: out of one cable, across the bridge, into the other.`,
  );
  const url = `http://${server.address}/`;
  await untilServed(demo, browser, url);
  const before = await native.listLinks({});
  const { stdout } = await exec(demo, browser, ["wget", "-q", "-O", "-", url]);
  const after = await native.listLinks({});
  const passed = [client, server].map(({ hostName }) => ({
    hostName,
    from: difference(hostName, before, after, "rxBytes"),
    to: difference(hostName, before, after, "txBytes"),
  }));
  screen.table(
    ["host's end", "bytes from the pod", "bytes to the pod"],
    passed.map(({ hostName, from, to }) => [hostName, String(from), String(to)]),
    "counters before and after, by rtnetlink; or: ip -s link",
  );
  screen.check("the page is the one in layer 3 of the image", stdout === page);
  screen.check(
    "it passed through both cables",
    passed.every(({ from, to }) => from > 0 && to > 0),
  );
}

async function cableOf({ agent, screen }: Demo, pod: DemoPod, container: DemoContainer): Promise<Cable> {
  const { status, info } = await agent.client.call("PodSandboxStatus", { pod_sandbox_id: pod.id, verbose: true });
  screen.crictl(`inspectp ${shortId(pod)}`);
  const { network } = JSON.parse(info["info"] ?? "{}") as { network: { hostInterface: string } };
  const files = ["ifindex", "iflink"].map((file) => `/sys/class/net/eth0/${file}`);
  const [index = "", peer = ""] = (await workload.out(agent, container.id, ["cat", ...files])).split("\n");
  const directory = join("/sys/class/net", network.hostInterface);
  const master = join(directory, "master");
  return {
    pod: pod.name,
    address: status?.network?.ip ?? "",
    inside: { index, peer },
    hostName: network.hostInterface,
    outside: {
      index: readFileSync(join(directory, "ifindex"), "utf8").trim(),
      peer: readFileSync(join(directory, "iflink"), "utf8").trim(),
      bridge: existsSync(master) ? basename(readlinkSync(master)) : "none",
    },
  };
}

/** A started container is not yet a listening server. */
async function untilServed({ agent }: Demo, container: DemoContainer, url: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const { exitCode } = await workload.exec(agent, container.id, ["wget", "-q", "-O", "/dev/null", url]);
    if (exitCode === 0) return;
    await sleep(20);
  }
}

function difference(
  name: string,
  before: LinkStatistics[],
  after: LinkStatistics[],
  counter: "rxBytes" | "txBytes",
): number {
  const [was, is] = [before, after].map((links) => links.find((link) => link.name === name)?.[counter] ?? 0);
  return (is ?? 0) - (was ?? 0);
}
