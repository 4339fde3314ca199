/** A bridge is one agent's: a second one that is given the same, most often by the default, leaves all of it alone and says so. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tableName } from "../../sandbox/network/nftables.js";
import { startAgent, type TestAgent } from "../support/agent.js";
import { openTestNetwork, type TestNetwork, until } from "../support/built-in-network.js";
import { askFromHost } from "../support/network-namespace.js";
import { fails, podStatus, type RunningPod, runPod } from "../support/workload.js";

const run = promisify(execFile);

/** Handles, too: a table that is written anew has others. */
async function kernelsView(bridge: string): Promise<string> {
  const table = await run("nft", ["-a", "list", "table", "inet", tableName(bridge)]);
  const addresses = await run("ip", ["-o", "address", "show", "dev", bridge]);
  const ports = await run("ip", ["-o", "link", "show", "master", bridge]);
  return [table, addresses, ports]
    .map(({ stdout }) => stdout.replace(/packets \d+ bytes \d+| tentative/g, ""))
    .join("");
}

describe("a network on a bridge that another one has", () => {
  let net: TestNetwork;
  before(async () => {
    net = await openTestNetwork();
  });
  afterEach(() => net.removePods());
  after(() => net.stop());

  it("is not ready and touches nothing, until the other one has let go", async () => {
    const hostPort = 30000 + net.slot.number;
    const pod = await net.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
    await pod.serve(80);
    const view = await kernelsView(net.slot.bridge);
    const first = net.network;
    const second = net.another();
    try {
      // of an older configuration of its own
      const mapping = { protocol: "tcp" as const, containerPort: 81, hostPort: hostPort + 128, hostIp: "" };
      const old = { ...second.reserve("e".repeat(64)), hostInterface: "btheeeeeeeeeeee", portMappings: [mapping] };
      second.adopt("e".repeat(64), old);
      await second.start();
      const { ready, message } = await second.status();
      assert.ok(!ready);
      assert.match(
        message,
        new RegExp(`^bridge ${net.slot.bridge} .* another agent .*process ${process.pid}, .*--bridge`),
      );
      const lease = second.reserve("f".repeat(64));
      await assert.rejects(second.attach("f".repeat(64), lease, { namespaceFd: pod.fd }), /another agent/);
      await assert.rejects(second.setPodCidr(`10.246.${net.slot.number}.0/24`), /another agent/);
      await second.detach("e".repeat(64), old, { namespaceGone: false });
      await second.cleanUp();
      assert.deepEqual(second.leaks({ pods: new Set(["f".repeat(64)]) } as never), []);
      assert.equal(await kernelsView(net.slot.bridge), view);
      assert.equal(await askFromHost("127.0.0.1", hostPort), net.gateway);
      await second.detach("f".repeat(64), lease, { namespaceGone: true });

      second.adopt(pod.id, pod.lease);
      first.close();
      net.network = second;
      await until(async () => (await second.status()).ready, "the second one takes it over");
      assert.equal(await askFromHost("127.0.0.1", hostPort), net.gateway);
    } finally {
      if (net.network === first) second.close();
    }
  });

  it("is ready in another network namespace", async () => {
    const script = fileURLToPath(new URL("../support/network-status.js", import.meta.url));
    // a sysfs shows the interfaces of the network namespace that it was mounted in
    const command = 'mount -t sysfs sysfs /sys && exec "$0" "$@"';
    const words = [
      "--net",
      "--mount",
      "sh",
      "-ec",
      command,
      process.execPath,
      script,
      net.slot.bridge,
      net.slot.subnet,
    ];
    const elsewhere = JSON.parse((await run("unshare", words)).stdout) as { ready: boolean; message: string };
    assert.ok(elsewhere.ready, elsewhere.message);
    const here = await run(process.execPath, [script, net.slot.bridge, net.slot.subnet]);
    assert.match(here.stdout, /another agent/);
  });
});

describe("an agent with a bridge that another one has", () => {
  let first: TestAgent;
  let second: TestAgent;
  let pod: RunningPod;
  before(async () => {
    first = await startAgent();
    pod = await runPod(first);
    second = await startAgent({ flags: { bridge: first.slot.bridge, subnet: first.slot.subnet } });
  });
  after(async () => {
    try {
      await second?.stop();
    } finally {
      await first?.stop();
    }
  });

  const networkReady = async ({ client }: TestAgent) => {
    const { status } = await client.call("Status", {});
    const condition = status?.conditions?.find(({ type }) => type === "NetworkReady");
    return { ready: condition?.status, message: condition?.message ?? "" };
  };

  it("serves, and says who has it: in Status, in the log, and to whoever wants a pod", async () => {
    const view = await kernelsView(first.slot.bridge);
    const whose = new RegExp(`another agent.*process ${first.pid}, which has its pods in ${first.paths.run}`);
    const { ready, message } = await networkReady(second);
    assert.equal(ready, false);
    assert.match(message, whose);
    assert.match(second.logs(), whose);
    await fails(runPod(second), "UNAVAILABLE", whose);
    // each would have written the other's table anew within a second
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    assert.equal(await kernelsView(first.slot.bridge), view);
    assert.deepEqual([(await networkReady(first)).ready, /restored|made again/.test(first.logs())], [true, false]);
  });

  it("does not get it while the other one is restarted and its pods run on", async () => {
    const { network } = await podStatus(first, pod.id);
    await first.kill9();
    const { ready, message } = await networkReady(second);
    assert.equal(ready, false);
    assert.match(message, new RegExp(`another agent.*${pod.id}, in ${first.paths.run}`));
    await fails(runPod(second), "UNAVAILABLE", new RegExp(pod.id));
    for (let round = 0; round < 5; round++) {
      await first.restart();
      assert.deepEqual(await networkReady(first), { ready: true, message: "" });
      await first.kill9();
    }
    await first.restart();
    assert.deepEqual((await podStatus(first, pod.id)).network, network);
  });

  it("gets it when the other one and its pods are gone", async () => {
    await first.client.call("RemovePodSandbox", { pod_sandbox_id: pod.id });
    await first.terminate();
    await until(async () => (await networkReady(second)).ready === true, "the bridge is the second one's");
    const own = await runPod(second);
    assert.match((await podStatus(second, own.id)).network?.ip ?? "", /^10\.244\./);
    await second.client.call("RemovePodSandbox", { pod_sandbox_id: own.id });
    await second.terminate();
    await first.restart();
    // the kernel may be taking the pod away still
    await until(async () => (await networkReady(first)).ready === true, "the bridge is the first one's again");
    await second.restart();
  });
});
