import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import type { KernelFeatures } from "../native/binding.js";
import { examineHost, type Host } from "./doctor.js";

const roots: string[] = [];
after(() => {
  for (const root of roots) rmSync(root, { recursive: true });
});

const healthyProc = {
  filesystems: "nodev\tsysfs\n\text4\nnodev\toverlay\n",
  swaps: "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
  "sys/net/ipv4/ip_forward": "1\n",
  "sys/net/bridge/bridge-nf-call-iptables": "1\n",
};

const features = {
  release: "6.18.0",
  overlayLowerdirPlus: true,
  mountSetattr: true,
  seccomp: true,
  capabilities: (1n << 41n) - 1n,
} as KernelFeatures;

/** A host that lacks nothing, but for what is given. */
function host(proc: Partial<Record<keyof typeof healthyProc, string | null>>, change: Partial<Host> = {}): Host {
  const root = mkdtempSync(join(tmpdir(), "berth-doctor-"));
  roots.push(root);
  for (const [path, content] of Object.entries({ ...healthyProc, ...proc })) {
    if (content === null) continue;
    const file = join(root, "proc", path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  return {
    root,
    cgroups: { mode: "v2", missingControllers: [] },
    features,
    network: "builtin",
    storageDriver: "overlay",
    bridge: "berth0",
    subnets: ["10.88.0.0/16"],
    listRoutes: async () => [],
    forwardDrops: async () => [],
    probeNftables: async () => undefined,
    ...change,
  };
}

const routeTo = (destination: string) => ({ destination, gateway: "", interface: "eth1", table: 254 });

const ids = async (of: Host) => (await examineHost(of)).map(({ id, breaks }) => (breaks ? `${id} ${breaks}` : id));

test("a host that lacks nothing", async () => {
  assert.deepEqual(await ids(host({})), []);
});

const cases: [string, Host, string[]][] = [
  ["ip_forward", host({ "sys/net/ipv4/ip_forward": "0\n" }), ["IpForwardOff NetworkReady"]],
  ["bridge-nf-call off", host({ "sys/net/bridge/bridge-nf-call-iptables": "0\n" }), ["BridgeNfCallOff"]],
  ["br_netfilter not loaded", host({ "sys/net/bridge/bridge-nf-call-iptables": null }), ["BridgeNfCallOff"]],
  ["swap", host({ swaps: `${healthyProc.swaps}/dev/sda2 partition 1 0 -2\n` }), ["SwapOn"]],
  ["overlay", host({ filesystems: "\text4\n" }), ["OverlayNotLoaded"]],
  [
    "a controller that limits need",
    host({}, { cgroups: { mode: "v2", missingControllers: ["memory", "hugetlb"] } }),
    ["CgroupControllerMissing RuntimeReady", "CgroupControllerMissing"],
  ],
  ["hybrid cgroups", host({}, { cgroups: { mode: "hybrid", missingControllers: [] } }), ["CgroupV1"]],
  ["cgroup v1", host({}, { cgroups: { mode: "v1", missingControllers: [] } }), ["CgroupV1", "CgroupKillMissing"]],
  ["no privileges", host({}, { features: { ...features, capabilities: 1n << 24n } }), ["NotPrivileged RuntimeReady"]],
  ["CAP_SYS_RESOURCE", host({}, { features: { ...features, capabilities: 1n << 21n } }), ["NoSysResource"]],
  ["old overlay", host({}, { features: { ...features, overlayLowerdirPlus: false } }), ["OverlayByScratchNamespace"]],
  ["no seccomp", host({}, { features: { ...features, seccomp: false } }), ["SeccompMissing"]],
  [
    "no nftables",
    host({}, { probeNftables: () => Promise.reject(new Error("EPROTONOSUPPORT")) }),
    ["NftablesMissing NetworkReady"],
  ],
  [
    "a route for a part of the pods' subnet",
    host({}, { listRoutes: async () => [routeTo("10.88.1.0/24")] }),
    ["SubnetOverlap NetworkReady"],
  ],
  [
    "a route around the pods' subnet",
    host({}, { listRoutes: async () => [routeTo("10.0.0.0/8")] }),
    ["SubnetInsideRoute"],
  ],
  ["a firewall that forwards nothing", host({}, { forwardDrops: async () => ["ip filter FORWARD"] }), ["ForwardDrop"]],
  [
    "the network is not up",
    host({}, { networkStatus: { ready: false, reason: "NetworkNotReady", message: "no bridge" } }),
    ["NetworkNotReady NetworkReady"],
  ],
];
for (const [name, of, expected] of cases) {
  test(`missing: ${name}`, async () => assert.deepEqual(await ids(of), expected));
}

test("without a network of its own nothing of the host's network is asked", async () => {
  assert.deepEqual(await ids(host({ "sys/net/ipv4/ip_forward": "0\n" }, { network: "none" })), []);
});

test("a finding says what follows and what to do", async () => {
  const [finding] = await examineHost(host({ "sys/net/ipv4/ip_forward": "0\n" }));
  assert.deepEqual(finding, {
    id: "IpForwardOff",
    severity: "error",
    what: "net.ipv4.ip_forward is 0",
    consequence: "pods reach neither other nodes nor the world",
    remedy: "Run sysctl -w net.ipv4.ip_forward=1, or start the agent, which sets it.",
    breaks: "NetworkReady",
  });
});
