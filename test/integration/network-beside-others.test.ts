/**
 * The built-in network beside the rules of kube-proxy, of a real Docker and of a real firewalld, in a network namespace that
 * stands for the node: pods reach what they should, and nothing of the others' is touched.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { forwardDrops } from "../../agent/nftables-probe.js";
import { tableName } from "../../sandbox/network/nftables.js";
import { openTestNetwork, type TestNetwork, type TestPod } from "../support/built-in-network.js";
import { missingForDocker, startDocker } from "../support/docker-daemon.js";
import { missingForFirewalld, startFirewalld } from "../support/firewalld.js";
import { iptablesRules, nftablesRules } from "../support/kube-proxy-rules.js";
import { askFromHost, startNamespace, type TestNamespace } from "../support/network-namespace.js";

const ownNetwork = "BERTH_TEST_OWN_NETWORK";
// a sysfs shows the interfaces of the network namespace that it was mounted in
const ownSysfs = `mount --rbind /sys/fs/cgroup /mnt && mount -t sysfs sysfs /sys && mount --rbind /mnt /sys/fs/cgroup
  exec "$0" "$@"`;
const hasPrograms = ["iptables", "nft", "unshare"].every((name) => spawnSync("which", [name]).status === 0);

if (process.env[ownNetwork] === undefined) {
  test("on a node of its own", { skip: hasPrograms ? false : "iptables, nft or unshare is missing" }, (t) => {
    const env: NodeJS.ProcessEnv = { ...process.env, [ownNetwork]: "1" };
    // else it would report to the runner of this process
    delete env["NODE_TEST_CONTEXT"];
    const own = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const args = [...own, "sh", "-ec", ownSysfs, process.execPath, fileURLToPath(import.meta.url)];
    const { status, stdout, stderr } = spawnSync("unshare", args, { env, encoding: "utf8", timeout: 240_000 });
    assert.equal(status, 0, stdout + stderr);
    for (const [, skipped] of stdout.matchAll(/^ *(.*# SKIP.*)$/gm)) t.diagnostic(skipped ?? "");
    assert.match(stdout, /beside kube-proxy/);
  });
} else {
  describe("on this node", () => {
    describe("beside kube-proxy", besideKubeProxy);
    describe("beside Docker", { skip: missingForDocker() }, besideDocker);
    describe("beside firewalld", { skip: missingForFirewalld() }, besideFirewalld);
  });
}

const uplinkName = "uplink";
const [nodeAddress, outsideAddress] = ["192.0.2.1", "192.0.2.2"];
const nodePort = 30_080;
const hostPort = 8_080;

let net: TestNetwork | undefined;
/** a machine beside the node, that knows no way to the pods */
let outside: TestNamespace;
let [server, client]: TestPod[] = [];

async function openUplink(): Promise<void> {
  const run = (...args: string[]) => execFileSync("ip", args);
  run("link", "set", "lo", "up");
  run("link", "add", uplinkName, "type", "veth", "peer", "name", "eth0", "netns", String(outside.pid));
  run("address", "add", `${nodeAddress}/24`, "dev", uplinkName);
  run("link", "set", uplinkName, "up");
  await outside.run("ip", "link", "set", "eth0", "up");
  await outside.run("ip", "address", "add", `${outsideAddress}/24`, "dev", "eth0");
  run("route", "add", "default", "via", outsideAddress);
  await outside.serve(7000);
}

async function openPods(): Promise<void> {
  const opened = await openTestNetwork();
  net = opened;
  server = await opened.startPod([{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
  client = await opened.startPod();
  await server.serve(80);
}

/** A node with an uplink, and nothing of an earlier test's. */
async function onNode(run: () => Promise<void>): Promise<void> {
  outside = await startNamespace();
  try {
    await openUplink();
    await run();
    await net?.removePods();
  } finally {
    await net?.stop();
    net = undefined;
    await outside.stop();
    spawnSync("ip", ["link", "delete", uplinkName]);
    execFileSync("nft", ["flush", "ruleset"]);
  }
}

/** All that a pod should reach, and who it should be reached by. Each server says who asked it. */
async function allIsReached(): Promise<void> {
  assert.ok(net !== undefined && server !== undefined && client !== undefined);
  assert.equal(await client.ask(server.address, 80), client.address, "pod to pod");
  assert.equal(await client.ask(server.address6, 80), client.address6, "pod to pod, IPv6");
  assert.equal(await client.ask(outsideAddress, 7000), nodeAddress, "pod to another machine");
  assert.equal(await askFromHost(server.address, 80), net.gateway, "node to pod");
  assert.equal(await askFromHost("127.0.0.1", hostPort), net.gateway, "node to its host port");
  assert.equal(await outside.ask(nodeAddress, hostPort), outsideAddress, "another machine to the host port");
  assert.equal(await client.ask(nodeAddress, hostPort), net.gateway, "pod to the host port");
  assert.equal(await server.ask(nodeAddress, hostPort), net.gateway, "pod to its own host port");
}

/** Of all other programs. */
function othersRules(bridge: string): string {
  return execFileSync("nft", ["list", "ruleset"], { encoding: "utf8" })
    .split(/^(?=table )/m)
    .filter((table) => !table.startsWith(`table inet ${tableName(bridge)} `))
    .join("")
    .replace(/packets \d+ bytes \d+/g, "");
}

/** The network is started again, its table is flushed and repaired, a pod comes and goes: that is not the others' affair. */
async function othersAreLeftAlone(): Promise<void> {
  assert.ok(net !== undefined);
  const { bridge } = net.slot;
  const before = othersRules(bridge);
  await net.network.start();
  execFileSync("nft", ["flush", "table", "inet", tableName(bridge)]);
  const pod = await net.startPod([{ protocol: "udp", containerPort: 53, hostPort: 5353, hostIp: "" }]);
  await net.stopPod(pod);
  await net.network.start();
  assert.equal(othersRules(bridge), before);
}

/** In short, after others have changed something. */
async function isStillReached(): Promise<void> {
  assert.equal(await client?.ask(outsideAddress, 7000), nodeAddress, "pod to another machine");
  assert.equal(await outside.ask(nodeAddress, hostPort), outsideAddress, "another machine to the host port");
}

function besideKubeProxy(): void {
  const ways = [
    ["iptables", iptablesRules, (rules: string) => execFileSync("iptables-restore", ["--noflush"], { input: rules })],
    ["nftables", nftablesRules, (rules: string) => execFileSync("nft", ["-f", "-"], { input: rules })],
  ] as const;
  for (const [mode, rulesOf, apply] of ways) {
    test(`in its mode ${mode}: services and node ports lead to pods, and host ports do as well`, () =>
      onNode(async () => {
        await openPods();
        assert.ok(net !== undefined && server !== undefined && client !== undefined);
        const clusterIp = "10.96.0.10";
        const podSubnet = net.slot.subnet;
        apply(rulesOf({ clusterIp, port: 80, nodePort, pod: server.address, podPort: 80, podSubnet }));
        await allIsReached();
        assert.equal(await client.ask(clusterIp, 80), client.address, "pod to a service");
        assert.equal(await server.ask(clusterIp, 80), net.gateway, "pod to a service of its own");
        assert.equal(await askFromHost(clusterIp, 80), net.gateway, "node to a service");
        assert.equal(await outside.ask(nodeAddress, nodePort), net.gateway, "another machine to a node port");
        await othersAreLeftAlone();
        await isStillReached();
      }));
  }
}

function besideDocker(): void {
  test("its policy drops what is forwarded: the doctor says so, and its advice lets all through", () =>
    onNode(async () => {
      // only where it switches forwarding on itself, it lets nothing else be forwarded
      writeFileSync("/proc/sys/net/ipv4/ip_forward", "0");
      const docker = await startDocker();
      try {
        await openPods();
        assert.ok(net !== undefined && client !== undefined);
        assert.deepEqual(await forwardDrops(), ["ip filter FORWARD"]);
        assert.equal(await client.ask(outsideAddress, 7000), "ETIMEDOUT");
        for (const way of ["-i", "-o"]) {
          execFileSync("iptables", ["-I", "DOCKER-USER", way, net.slot.bridge, "-j", "ACCEPT"]);
        }
        await allIsReached();
        await othersAreLeftAlone();
        await docker.restart();
        await isStillReached();
      } finally {
        await docker.stop();
      }
    }));
}

function besideFirewalld(): void {
  test("its last rule refuses what is forwarded: the doctor says so, and in the zone trusted all is let through", () =>
    onNode(async () => {
      // the zone that the node's own interfaces are in is nobody else's affair
      execFileSync("mount", ["-t", "tmpfs", "tmpfs", "/etc/firewalld"]);
      const firewalld = await startFirewalld();
      try {
        await openPods();
        assert.ok(net !== undefined && client !== undefined);
        assert.deepEqual(await forwardDrops(), ["inet firewalld filter_FORWARD"]);
        assert.match(await client.ask(outsideAddress, 7000), /^E(HOSTUNREACH|CONNREFUSED|NETUNREACH|ACCES|PERM)/);
        firewalld.change("--permanent", "--zone=trusted", `--add-interface=${net.slot.bridge}`);
        firewalld.change("--reload");
        await allIsReached();
        await othersAreLeftAlone();
        firewalld.change("--reload");
        await isStillReached();
      } finally {
        await firewalld.stop();
        execFileSync("umount", ["/etc/firewalld"]);
      }
    }));
}
