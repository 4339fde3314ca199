/** `berth network inspect`, and what metrics tell of the network. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tableName } from "../../sandbox/network/nftables.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { fails, NamespaceMode, podStatus, type RunningPod, runPod } from "../support/workload.js";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../agent/cli/main.js", import.meta.url));

interface Inspected {
  pod_sandbox_id: string;
  provider: string;
  interfaces: Record<string, unknown>[];
  routes: Record<string, string>[];
  rules: { rule: string; installed: boolean }[];
  drops: { where: string; packets: string }[];
}

describe("berth network inspect", () => {
  let agent: TestAgent;
  let pod: RunningPod;
  let hostPort: number;
  let address: string;

  before(async () => {
    agent = await startAgent();
    hostPort = 29000 + agent.slot.number;
    pod = await runPod(agent, {
      port_mappings: [{ protocol: 0, container_port: 80, host_port: hostPort, host_ip: "127.0.0.1" }],
      annotations: { "kubernetes.io/ingress-bandwidth": "100M" },
    });
    address = (await podStatus(agent, pod.id)).network?.ip ?? "";
  });
  after(() => agent.stop());

  const berth = (...args: string[]) => run(program, ["network", "inspect", "--socket", agent.socket, ...args]);
  const inspect = async (): Promise<Inspected> => JSON.parse((await berth("--json", pod.id)).stdout) as Inspected;

  it("tells both ends of the veth, routes and host ports", async () => {
    const { provider, interfaces, routes, rules } = await inspect();
    assert.equal(provider, "builtin");
    const [inside, outside] = interfaces.filter(({ name }) => name !== "lo");
    assert.deepEqual([inside?.["side"], inside?.["name"], inside?.["up"]], ["pod", "eth0", true]);
    assert.match(String(inside?.["addresses"]), new RegExp(`^${address}/24`));
    assert.equal(outside?.["side"], "host");
    assert.equal(outside?.["bridge"], agent.slot.bridge);
    assert.ok(readdirSync(`/sys/class/net/${agent.slot.bridge}/brif`).includes(String(outside?.["name"])));
    assert.deepEqual(
      routes.find(({ destination }) => destination === "0.0.0.0/0"),
      { destination: "0.0.0.0/0", gateway: `10.244.${agent.slot.number}.1`, interface: "eth0" },
    );
    assert.deepEqual(rules, [{ rule: `tcp 127.0.0.1:${hostPort} to ${address}:80`, installed: true }]);
    const text = (await berth(pod.id.slice(0, 12))).stdout;
    assert.match(text, new RegExp(`host +${outside?.["name"]} \\(${agent.slot.bridge}\\) +up`));
    assert.match(text, new RegExp(`tcp 127\\.0\\.0\\.1:${hostPort} to ${address}:80 +yes`));
  });

  it("tells where packets are dropped", async () => {
    const socket = createSocket("udp4");
    try {
      const told = async () => (await inspect()).drops.find(({ where }) => where === "pod, Udp NoPorts");
      assert.equal(await told(), undefined);
      for (const end = Date.now() + 10_000; (await told()) === undefined; await sleep(50)) {
        assert.ok(Date.now() < end, "nobody counts what was sent to a port without a program");
        await new Promise((resolve) => socket.send("?", 9, address, resolve));
      }
    } finally {
      socket.close();
    }
  });

  it("a pod with the host's network, and one that is not there, have none to tell of", async () => {
    const other = await runPod(agent, {
      linux: { security_context: { namespace_options: { network: NamespaceMode.NODE } } },
    });
    await fails(
      agent.client.call("InspectNetwork", { pod_sandbox_id: other.id }),
      "FAILED_PRECONDITION",
      /has the host's network/,
    );
    await fails(agent.client.call("InspectNetwork", { pod_sandbox_id: "feedfeed" }), "NOT_FOUND", /feedfeed/);
  });

  it("metrics have the steps of an attachment, and what was made again", async () => {
    const scrape = async () => (await fetch(agent.metricsUrl)).text();
    const steps = await scrape();
    for (const step of ["interfaces", "host ports", "bandwidth"]) {
      assert.match(steps, new RegExp(`_count\\{operation="attach-network",step="${step}"\\} 1\\n`));
    }
    await run("nft", ["flush", "table", "inet", tableName(agent.slot.bridge)]);
    for (const end = Date.now() + 10_000; !/^berth_restored_total 1$/m.test(await scrape()); await sleep(50)) {
      assert.ok(Date.now() < end, "the table was not made again");
    }
    assert.ok((await inspect()).rules.every(({ installed }) => installed));
  });

  it("a pod whose interface is deleted on the host has it again", async () => {
    const ends = async () =>
      (await inspect()).interfaces
        .filter(({ name }) => name !== "lo")
        .map(({ side, name, up, addresses, bridge, mac }) => ({
          side,
          name,
          up,
          addresses,
          bridge,
          ...(side === "pod" && { mac }),
        }));
    const before = await ends();
    await run("ip", ["link", "delete", String(before[1]?.name)]);
    for (const end = Date.now() + 10_000; (await ends()).length < 2; await sleep(50)) {
      assert.ok(Date.now() < end, "the interface was not made again");
    }
    const withoutGenerated = (all: typeof before) => JSON.stringify(all).replace(/,?"fe80[^"]*"/g, "");
    assert.equal(withoutGenerated(await ends()), withoutGenerated(before));
    assert.match(agent.logs(), new RegExp(`${pod.id}.*interface|interface.*${pod.id}`));
  });
});
