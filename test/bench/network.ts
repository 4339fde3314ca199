/**
 * `npm run bench -- network`: what the built-in network costs as the agent sees it, alone and with 1,000 pods (`network 100`
 * takes another number), and beside the same made by hand with `ip` and `nft`; and what CNI costs beside its plugins called
 * one after another from C.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { native } from "../../native/binding.js";
import { BuiltinNetwork, removeBuiltinNetwork } from "../../sandbox/network/builtin.js";
import { CniNetwork } from "../../sandbox/network/cni/cni-network.js";
import type { NetworkLease } from "../../sandbox/network/provider.js";
import { Observer } from "../../sandbox/observer.js";
import { claimSlot, type Slot } from "../support/slot.js";
import { type Figure, median, timed } from "./figures.js";

const run = promisify(execFile);
const rounds = 20;
const atOnce = 100;
const turns = 41;
const turnSeconds = 0.3;

type Report = (name: string, unit: string, value: number, target?: number, atLeast?: boolean) => void;

interface Namespace {
  name: string;
  path: string;
}

interface Pod {
  id: string;
  lease: NetworkLease;
  namespace: Namespace;
}

let serial = 0;

async function makeNamespaces(count: number): Promise<Namespace[]> {
  const names = Array.from({ length: count }, () => `berth-bench-${process.pid}-${serial++}`);
  const child = execFile("ip", ["-batch", "-"]);
  child.stdin?.end(names.map((name) => `netns add ${name}\n`).join(""));
  const [code] = (await once(child, "exit")) as [number];
  if (code !== 0) throw new Error(`ip ended with ${code}`);
  return names.map((name) => ({ name, path: `/run/netns/${name}` }));
}

/** @param parts "attach", "traffic", "cni"; none: all of them */
export async function measureNetwork(manyPods: number, parts: readonly string[] = []): Promise<Figure[]> {
  const wanted = (part: string) => parts.length === 0 || parts.includes(part);
  const figures: Figure[] = [];
  const report: Report = (name, unit, value, target, atLeast) =>
    void figures.push({ name, unit, value, ...(target !== undefined && { target }), ...(atLeast && { atLeast }) });
  const slot = claimSlot();
  const directory = mkdtempSync(join(tmpdir(), "berth-bench-"));
  try {
    const load = join(directory, "network-load");
    const source = fileURLToPath(new URL("../../../test/bench/network-load.c", import.meta.url));
    await run("cc", ["-O2", "-o", load, source]);
    if (wanted("attach")) await measureAttach(slot, directory, manyPods, report);
    if (wanted("traffic")) await measureTraffic(slot, load, directory, report);
    if (wanted("cni") && existsSync("/usr/lib/cni/bridge")) await measureCni(slot, load, directory, report);
  } finally {
    slot.release();
    rmSync(directory, { recursive: true, force: true });
  }
  return figures;
}

function builtin(slot: Slot, directory: string): BuiltinNetwork {
  return new BuiltinNetwork({
    addon: native,
    bridge: slot.bridge,
    run: "/nonexistent",
    namespaceOf: () => "/nonexistent",
    // as many as a bridge has ports
    subnets: [`10.243.${slot.number & ~7}.0/21`, slot.subnet6],
    cidrPath: join(directory, "pod-cidr"),
    positionsPath: join(directory, "positions"),
    observer: new Observer(),
  });
}

/**
 * CPU is this process's, its work in the kernel included: on a machine that others use, it says more than the time.
 * Each pod has a host port; detaching is what StopPodSandbox waits for, the pin's end included.
 */
async function measureAttach(slot: Slot, directory: string, manyPods: number, report: Report): Promise<void> {
  const network = builtin(slot, directory);
  await network.start();
  const pods: Pod[] = [];
  const attach = async (namespace: Namespace, times?: number[]): Promise<void> => {
    const id = `${(serial++).toString(16).padStart(12, "0")}bench`;
    const namespaceFd = native.openPath(namespace.path);
    const begun = process.hrtime.bigint();
    const lease = network.reserve(id, [
      { protocol: "tcp", containerPort: 80, hostPort: 10_000 + pods.length, hostIp: "" },
    ]);
    pods.push({ id, lease, namespace });
    await network.attach(id, lease, { namespaceFd });
    times?.push(Number(process.hrtime.bigint() - begun) / 1e6);
    native.closeDescriptor(namespaceFd);
  };
  const detach = async (pod: Pod): Promise<void> => {
    pods.splice(pods.indexOf(pod), 1);
    await Promise.all([
      native.unpinNamespace(pod.namespace.path),
      network.detach(pod.id, pod.lease, { namespaceGone: true }),
    ]);
  };
  const measureOne = async (with_: string): Promise<void> => {
    const ups: number[] = [];
    const downs: number[] = [];
    const cpu: number[] = [];
    for (const namespace of await makeNamespaces(rounds)) {
      const before = process.cpuUsage();
      await attach(namespace, ups);
      const { user, system } = process.cpuUsage(before);
      cpu.push((user + system) / 1e3);
      const pod = pods.at(-1) as Pod;
      downs.push(await timed(() => detach(pod)));
    }
    report(`attach a pod, ${with_}`, "ms", median(ups), 2);
    report(`its CPU, ${with_}`, "ms", median(cpu));
    report(`detach it, ${with_}`, "ms", median(downs), 1);
  };
  try {
    await measureOne("alone");
    const together: number[] = [];
    for (let i = 0; i < 3; i++) {
      const namespaces = await makeNamespaces(atOnce);
      together.push(await timed(() => Promise.all(namespaces.map((namespace) => attach(namespace)))));
      for (const pod of [...pods]) await detach(pod);
    }
    report(`attach ${atOnce} pods at once`, "ms", median(together), 500);
    for (const namespace of await makeNamespaces(manyPods)) await attach(namespace);
    await measureOne(`with ${manyPods} others`);
  } finally {
    for (const pod of [...pods]) await detach(pod);
    network.close();
    await removeBuiltinNetwork(native, slot.bridge);
  }
}

/**
 * Two pods of ours and two made by hand take turns. The hand-made ones have their host port from a table of their own, before
 * ours: once it has led a connection, the kernel asks ours no more.
 */
async function measureTraffic(slot: Slot, load: string, directory: string, report: Report): Promise<void> {
  const [ours, byHand] = [`10.243.${slot.number & ~7}`, `10.245.${slot.number}`];
  const [ourPort, handPort] = ["20001", "20002"];
  const network = builtin(slot, directory);
  await network.start();
  const namespaces = await makeNamespaces(4);
  const [server, client, handServer, handClient] = namespaces as [Namespace, Namespace, Namespace, Namespace];
  const table = `berth_bench_${process.pid}`;
  const servers: ReturnType<typeof spawn>[] = [];
  const leases: [string, NetworkLease][] = [];
  const inside = async (namespace: Namespace, ...args: string[]): Promise<number> => {
    const { stdout } = await run("ip", ["netns", "exec", namespace.name, load, ...args]);
    return Number(stdout);
  };
  try {
    for (const [namespace, hostPort] of [
      [server, Number(ourPort)],
      [client, 0],
    ] as const) {
      const id = `${(serial++).toString(16).padStart(12, "0")}bench`;
      const lease = network.reserve(id, [{ protocol: "tcp", containerPort: 80, hostPort, hostIp: "" }]);
      leases.push([id, lease]);
      const namespaceFd = native.openPath(namespace.path);
      await network.attach(id, lease, { namespaceFd });
      native.closeDescriptor(namespaceFd);
    }
    await makeByHand(slot.outsideBridge, byHand, [handServer, handClient]);
    const rule = `ip daddr ${byHand}.1 tcp dport ${handPort} dnat to ${byHand}.2:80`;
    await run("nft", [`table ip ${table} { chain output { type nat hook output priority -110; ${rule}; }; }`]);
    for (const namespace of [server, handServer]) {
      const child = spawn("ip", ["netns", "exec", namespace.name, load, "serve", "80"], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      servers.push(child);
      await once(child.stdout as NodeJS.ReadableStream, "data");
    }
    const seconds = String(turnSeconds);
    const serverAddress = (leases[0]?.[1].addresses[0] ?? "").split("/")[0] ?? "";
    const bytes = await takeTurns(
      () => inside(client, "send", serverAddress, "80", seconds),
      () => inside(handClient, "send", `${byHand}.2`, "80", seconds),
    );
    report("TCP between two pods", "MB/s", bytes.ours / 1e6);
    report("the same, made by hand", "MB/s", bytes.byHand / 1e6);
    report("ours in percent of it", "%", bytes.percent, 95, true);
    const connect = async (address: string, port: string) =>
      Number((await run(load, ["connect", address, port, seconds])).stdout);
    const connections = await takeTurns(
      () => connect(`${ours}.1`, ourPort),
      () => connect(`${byHand}.1`, handPort),
    );
    report("connections a second through a host port", "/s", connections.ours);
    report("the same, by one rule made by hand", "/s", connections.byHand);
    report("ours in percent of those", "%", connections.percent, 95, true);
  } finally {
    for (const child of servers) child.kill("SIGKILL");
    await run("nft", [`add table ip ${table}; delete table ip ${table}`]);
    for (const { path } of namespaces) await native.unpinNamespace(path);
    for (const [id, lease] of leases) await network.detach(id, lease, { namespaceGone: true });
    network.close();
    await removeBuiltinNetwork(native, slot.bridge);
    await native.deleteLink(slot.outsideBridge);
  }
}

async function makeByHand(bridge: string, net: string, namespaces: readonly Namespace[]): Promise<void> {
  const ip = (...args: string[]) => run("ip", args);
  await ip("link", "add", bridge, "type", "bridge");
  await ip("address", "add", `${net}.1/24`, "dev", bridge);
  await ip("link", "set", bridge, "up");
  for (const [index, { name }] of namespaces.entries()) {
    const veth = `bnh${process.pid}${index}`.slice(0, 15);
    await ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name);
    await ip("link", "set", veth, "master", bridge, "up");
    await ip("-n", name, "address", "add", `${net}.${index + 2}/24`, "dev", "eth0");
    await ip("-n", name, "link", "set", "eth0", "up");
    await ip("-n", name, "route", "add", "default", "via", `${net}.1`);
  }
}

/** Medians of both, and of the quotients of neighbouring turns: what else the machine does is in both. */
async function takeTurns(
  ours: () => Promise<number>,
  byHand: () => Promise<number>,
): Promise<{ ours: number; byHand: number; percent: number }> {
  const pairs: [number, number][] = [];
  for (let turn = 0; turn < turns; turn++) {
    if (turn % 2 === 0) pairs.push([await ours(), await byHand()]);
    else pairs.push((await Promise.all([byHand().then(async (hand) => [await ours(), hand] as [number, number])]))[0]);
  }
  return {
    ours: median(pairs.map(([own]) => own)),
    byHand: median(pairs.map(([, hand]) => hand)),
    percent: 100 * median(pairs.map(([own, hand]) => own / hand)),
  };
}

/** Debian's bridge, host-local and portmap, by the agent's own code and by hand. */
async function measureCni(slot: Slot, load: string, directory: string, report: Report): Promise<void> {
  const at = (name: string): string => {
    mkdirSync(join(directory, name), { recursive: true });
    return join(directory, name);
  };
  const bridge = `bnc${process.pid}`.slice(0, 15);
  const common = { cniVersion: "1.0.0", name: "bench" };
  const bridgePlugin = {
    type: "bridge",
    bridge,
    isGateway: true,
    ipam: { type: "host-local", dataDir: at("addresses"), ranges: [[{ subnet: `10.247.${slot.number}.0/24` }]] },
  };
  const portmap = { type: "portmap", capabilities: { portMappings: true } };
  writeFileSync(
    join(at("net.d"), "10-bench.conflist"),
    JSON.stringify({ ...common, plugins: [bridgePlugin, portmap] }),
  );
  const network = new CniNetwork({
    addon: native,
    configurationDirectory: at("net.d"),
    pluginDirectories: ["/usr/lib/cni"],
    cacheDirectory: at("cache"),
    removalsDirectory: at("removals"),
    observer: new Observer(),
  });
  await network.start();
  const podOf = (netnsPath: string) => ({
    ...{ name: "bench", namespace: "bench", uid: "bench", annotations: {}, cgroupPath: "", netnsPath },
    dns: { servers: [], searches: [], options: [] },
  });
  const mapping = { protocol: "tcp" as const, containerPort: 80, hostPort: 20_003, hostIp: "" };
  const byAgent: number[] = [];
  const byHand: number[] = [];
  const differences: number[] = [];
  try {
    for (const namespace of await makeNamespaces(rounds)) {
      const id = `${(serial++).toString(16).padStart(12, "0")}bench`;
      const namespaceFd = native.openPath(namespace.path);
      const reserved = network.reserve(id, [mapping], podOf(namespace.path));
      let lease = reserved;
      const own = await timed(async () => {
        lease = await network.attach(id, reserved, { namespaceFd });
      });
      native.closeDescriptor(namespaceFd);
      await network.detach(id, lease);
      const hand = await callByHand(load, { ...common, ...bridgePlugin }, { ...common, ...portmap }, mapping);
      byAgent.push(own);
      byHand.push(hand);
      differences.push(own - hand);
    }
  } finally {
    await native.deleteLink(bridge);
  }
  report("CNI ADD: bridge, host-local, portmap", "ms", median(byAgent));
  report("the same, called from C", "ms", median(byHand));
  report("what the agent adds", "ms", median(differences), 5);
}

async function callByHand(load: string, first: object, second: object, mapping: object): Promise<number> {
  const [namespace] = (await makeNamespaces(1)) as [Namespace];
  const env = {
    PATH: process.env["PATH"],
    CNI_CONTAINERID: namespace.name,
    CNI_NETNS: namespace.path,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/usr/lib/cni",
    CNI_ARGS: "IgnoreUnknown=1",
  };
  const runtimeConfig = { portMappings: [mapping] };
  const last = JSON.stringify({ ...second, runtimeConfig }).replace(/\}$/, ',"prevResult":');
  const call = (command: string, ...plugins: string[]) =>
    run(load, ["cni", "/usr/lib/cni", ...plugins], { env: { ...env, CNI_COMMAND: command } });
  const { stdout } = await call("ADD", "bridge", JSON.stringify(first), "portmap", last);
  await call("DEL", "portmap", JSON.stringify({ ...second, runtimeConfig }));
  await call("DEL", "bridge", JSON.stringify(first));
  await native.unpinNamespace(namespace.path);
  return Number(stdout);
}

/** For the figures' head: others' work on the machine is in them. */
export function loadAverage(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ")[0] ?? "";
}
