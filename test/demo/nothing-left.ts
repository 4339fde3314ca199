/** The end: all that the demo made is looked for on the host. */
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { tableName } from "../../sandbox/network/nftables.js";
import type { TestAgent } from "../support/agent.js";
import { findLeft, type LeakScope, leftCgroups, leftProcesses, mountsBelow } from "../support/leaks.js";
import { closeDemo, type Demo, forwardingFile, tableNames } from "./setup.js";

/** The agent deletes after three to four seconds what the kernel has not taken away by then; see leaks.ts. */
const patienceMs = 20_000;

export async function showNothingLeft(demo: Demo): Promise<void> {
  const { agent, registry, screen } = demo;
  screen.title(
    "Nothing left",
    "The demo's pods are removed. Root file systems never had a name on the host, so the kernel took them away with the " +
      "containers. What did have one is looked for here, first while the agent still runs, then after its end.",
  );
  const { items } = await agent.client.call("ListPodSandbox", {});
  screen.crictl("pods -q", items.map(({ id }) => id).join("\n") || "(no line)");
  const scope = scopeOf(agent);
  const left = await whatStays(() => findLeft(scope));
  screen.lines(left);
  const none = (kind: string) => !left.some((line) => line.startsWith(kind));
  screen.check("no monitor and no container's process", none("process"));
  screen.check("no mount, no pinned namespace", none("mount"));
  screen.check(`no cgroup below ${agent.cgroupRoot}, in any hierarchy`, none("cgroup"));
  screen.check(
    `no interface on the bridge ${agent.slot.bridge}, no port rule`,
    none("interface") && none("port rules"),
  );
  screen.check("no record, no directory of a pod or a container", none("/"));

  const { pid } = agent;
  await closeDemo(demo);
  screen.say(
    "Then the agent is ended by SIGTERM, and the demo takes its bridge, its directories and the registry away.",
  );
  const rest = await whatStays(() => leftovers(agent, [pid, registry.pid]));
  screen.lines(rest);
  screen.values([
    ["forwarding before", demo.forwardingBefore, `${forwardingFile}; pods need it to be 1`],
    ["forwarding now", readFileSync(forwardingFile, "utf8").trim(), forwardingFile],
  ]);
  screen.check(
    "the agent, the registry, the bridge, the nftables table and all directories are gone",
    rest.length === 0,
  );
}

/** Everything of the demo that is on the host after its end; nothing should be. A line each. */
export async function leftovers(agent: TestAgent, pids: number[]): Promise<string[]> {
  const { bridge } = agent.slot;
  const paths = [agent.paths.base, `/sys/class/net/${bridge}`, ...pids.map((pid) => `/proc/${pid}`)];
  const table = tableName(bridge);
  return [
    ...paths.filter((path) => existsSync(path)),
    ...mountsBelow(agent.paths.base).map((line) => `mount ${line}`),
    ...leftCgroups(agent.cgroupRoot).map((path) => `cgroup ${path}`),
    ...leftProcesses(scopeOf(agent)).map(({ pid, what }) => `process ${pid} ${what}`),
    ...(await tableNames()).filter((name) => name === table).map((name) => `nftables table ${name}`),
  ];
}

function scopeOf({ paths, cgroupRoot, slot }: TestAgent): LeakScope {
  return { ...paths, cgroupRoot, bridge: slot.bridge };
}

/** Looks again until nothing is found or patience is over. */
async function whatStays(look: () => Promise<string[]>): Promise<string[]> {
  for (const until = Date.now() + patienceMs; ; await sleep(25)) {
    const left = await look();
    if (left.length === 0 || Date.now() > until) return left;
  }
}
