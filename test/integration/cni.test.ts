/** Pods on networks of CNI plugins: Debian's bridge, host-local and portmap. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { native } from "../../native/binding.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import {
  fails,
  importBusybox,
  out,
  podStatus,
  type RunningPod,
  removePod,
  runContainer,
  runPod,
  sh,
} from "../support/workload.js";

const missing = ["bridge", "host-local", "portmap"].filter((name) => !existsSync(join("/usr/lib/cni", name)));
const skip = missing.length > 0 && `the CNI plugins ${missing.join(", ")} are not in /usr/lib/cni`;

describe("with Debian's CNI plugins", { skip }, () => {
  let agent: TestAgent;
  let pods: RunningPod[] = [];

  before(async () => {
    agent = await startAgent({ flags: { network: "cni" } });
    await importBusybox(agent);
  });
  after(async () => {
    await native.deleteLink(bridgeName());
    await agent.stop();
  });

  const bridgeName = () => `cni${agent.slot.number}-${process.pid}`.slice(0, 15);
  const addressDirectory = () => join(agent.paths.base, "addresses");
  const addresses = () => {
    const directory = join(addressDirectory(), "berth-test");
    return existsSync(directory) ? readdirSync(directory).filter((name) => /^\d+\.|:/.test(name)) : [];
  };
  const cached = () => {
    const results = join(agent.paths.cni.cache, "results");
    return existsSync(results) ? readdirSync(results) : [];
  };
  const configure = () =>
    writeFileSync(
      join(agent.paths.cni.conf, "10-test.conflist"),
      JSON.stringify({
        cniVersion: "1.0.0",
        name: "berth-test",
        plugins: [
          {
            type: "bridge",
            bridge: bridgeName(),
            isGateway: true,
            hairpinMode: true,
            ipam: {
              type: "host-local",
              dataDir: addressDirectory(),
              ranges: [
                [{ subnet: `10.247.${agent.slot.number}.0/24` }],
                [{ subnet: `fd47:${agent.slot.number}::/64` }],
              ],
              routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
            },
          },
        ],
      }),
    );

  it("the network is not ready before there is a configuration, and then it is, without a restart", async () => {
    const ready = async () => {
      const { status } = await agent.client.call("Status", {});
      const { status: value, message } = status?.conditions?.find(({ type }) => type === "NetworkReady") ?? {};
      return { value, message };
    };
    const before = await ready();
    assert.equal(before.value, false);
    assert.match(before.message ?? "", /no CNI network configuration in .*net\.d/);
    await fails(runPod(agent), "UNAVAILABLE", /pod network is not ready: there is no CNI network configuration/);
    configure();
    assert.deepEqual(await ready(), { value: true, message: "" });
  });

  it("two pods have the addresses that the plugin gave, and reach each other by both", async () => {
    pods = await Promise.all([runPod(agent), runPod(agent)]);
    const [first, second] = pods as [RunningPod, RunningPod];
    const { network } = await podStatus(agent, first.id);
    assert.match(network?.ip ?? "", /^10\.247\./);
    assert.match(network?.additional_ips?.[0]?.ip ?? "", /^fd47:/);
    const server = await runContainer(agent, first, sh("nc -ll -p 8080 -e cat"));
    const client = await runContainer(agent, second);
    for (const address of [network?.ip, network?.additional_ips?.[0]?.ip]) {
      // IPv6 waits for its duplicate address detection
      const command = `for i in $(seq 50); do echo hello | nc -w 1 ${address} 8080 && exit; sleep 0.1; done; exit 1`;
      assert.equal(await out(agent, client, command), "hello", address ?? "");
    }
    assert.match(
      await out(agent, server, "cat /etc/hosts"),
      new RegExp(`^${network?.ip}\t${first.config.hostname}$`, "m"),
    );
    assert.match(await out(agent, server, "ip link show lo"), /LOOPBACK,UP/);
  });

  it("berth network inspect finds the ends that the plugins have made", async () => {
    const { provider, interfaces, rules } = await agent.client.call("InspectNetwork", {
      pod_sandbox_id: pods[0]?.id ?? "",
    });
    assert.equal(provider, "cni");
    assert.deepEqual(
      interfaces.filter(({ name }) => name !== "lo").map(({ side, bridge }) => [side, bridge]),
      [
        ["pod", ""],
        ["host", bridgeName()],
      ],
    );
    assert.deepEqual(rules, []);
    const metrics = await (await fetch(agent.metricsUrl)).text();
    assert.match(metrics, /_count\{operation="cni",step="ADD bridge"\} 2\n/);
  });

  it("what was attached stands in libcni's cache", () => {
    const [first] = pods as [RunningPod];
    const file = cached().find((name) => name.includes(first.id));
    assert.equal(file, `berth-test-${first.id}-eth0`);
    const cache = JSON.parse(readFileSync(join(agent.paths.cni.cache, "results", file ?? ""), "utf8"));
    assert.equal(cache.kind, "cniCacheV1");
    assert.equal(JSON.parse(Buffer.from(cache.config, "base64").toString()).name, "berth-test");
    assert.deepEqual(
      cache.cniArgs.find(([name]: string[]) => name === "K8S_POD_NAME"),
      ["K8S_POD_NAME", first.config.metadata?.name],
    );
    assert.equal(cache.result.ips.length, 2);
  });

  it("after the agent was killed, and the configuration and the bridge have gone, pods go all the same", async () => {
    await agent.kill9();
    rmSync(join(agent.paths.cni.conf, "10-test.conflist"));
    await agent.restart();
    assert.equal(addresses().length, 4);
    for (const pod of pods) await removePod(agent, pod);
    assert.deepEqual([addresses(), cached()], [[], []]);
    await agent.assertNothingLeft();
  });

  it("a pod made under another network goes after the setting was changed", async () => {
    configure();
    const pod = await runPod(agent);
    await agent.restart({ network: "builtin" });
    const builtin = await runPod(agent);
    assert.match(
      (await podStatus(agent, builtin.id)).network?.ip ?? "",
      new RegExp(`^${agent.slot.subnet.split(".0/")[0]}`),
    );
    await removePod(agent, pod);
    assert.deepEqual(addresses(), []);
    await agent.restart({ network: "cni" });
    await removePod(agent, builtin);
    await agent.assertNothingLeft();
  });

  it("auto: the built-in network until there is a configuration, and then CNI's, also while the file is away", async () => {
    rmSync(join(agent.paths.cni.conf, "10-test.conflist"));
    await agent.restart({ network: "auto" });
    const addressOf = async (pod: RunningPod) => (await podStatus(agent, pod.id)).network?.ip ?? "";
    const own = new RegExp(`^${agent.slot.subnet.split(".0/")[0]}`);
    const first = await runPod(agent);
    assert.match(await addressOf(first), own);
    configure();
    const second = await runPod(agent);
    assert.match(await addressOf(second), /^10\.247\./);
    rmSync(join(agent.paths.cni.conf, "10-test.conflist"));
    await fails(runPod(agent), "UNAVAILABLE", /there is no CNI network configuration/);
    // both are taken away by what they were made by
    await agent.restart();
    assert.match(await addressOf(await runPod(agent)), own);
    await removePod(agent, first);
    await removePod(agent, second);
    assert.deepEqual(addresses(), []);
  });
});
