/** The built-in network on a bridge of its own, without an agent: namespaces of our own stand for pods. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { native } from "../../native/binding.js";
import { BuiltinNetwork, removeBuiltinNetwork } from "../../sandbox/network/builtin.js";
import { tableName } from "../../sandbox/network/nftables.js";
import type { NetworkLease, PortMapping } from "../../sandbox/network/provider.js";
import { type Happening, Observer } from "../../sandbox/observer.js";
import { startNamespace, type TestNamespace } from "./network-namespace.js";
import { claimSlot, type Slot } from "./slot.js";

export interface TestPod extends TestNamespace {
  id: string;
  lease: NetworkLease;
  address: string;
  address6: string;
}

export interface TestNetwork {
  readonly slot: Slot;
  /** the bridge's address */
  readonly gateway: string;
  readonly cidrPath: string;
  readonly positionsPath: string;
  readonly pods: readonly TestPod[];
  /** what the network has told so far */
  readonly happenings: readonly Happening[];
  network: BuiltinNetwork;
  /** as the next agent would make it, not started */
  another(): BuiltinNetwork;
  startPod(portMappings?: PortMapping[], annotations?: Record<string, string>): Promise<TestPod>;
  stopPod(pod: TestPod): Promise<void>;
  /** elements of the table's maps for host ports */
  portElements(): Promise<number>;
  rules(): Promise<number>;
  /** ends all pods; fails when something of them is left */
  removePods(): Promise<void>;
  stop(): Promise<void>;
}

const patienceMs = 30_000;

export async function openTestNetwork(): Promise<TestNetwork> {
  const slot = claimSlot();
  const state = mkdtempSync(join(tmpdir(), "berth-network-"));
  const cidrPath = join(state, "pod-cidr");
  const positionsPath = join(state, "positions");
  const observer = new Observer();
  const happenings: Happening[] = [];
  observer.subscribe((happening) => happenings.push(happening));
  const pods: TestPod[] = [];
  const another = () =>
    new BuiltinNetwork({
      addon: native,
      bridge: slot.bridge,
      run: "/nonexistent",
      namespaceOf: (podId) => `/proc/${pods.find(({ id }) => id === podId)?.pid}/ns/net`,
      subnets: [slot.subnet, slot.subnet6],
      cidrPath,
      positionsPath,
      observer,
    });
  const self: TestNetwork = {
    slot,
    gateway: `10.244.${slot.number}.1`,
    cidrPath,
    positionsPath,
    pods,
    happenings,
    network: another(),
    another,
    async startPod(portMappings = [], annotations = {}) {
      const id = randomBytes(32).toString("hex");
      const lease = self.network.reserve(id, portMappings, { annotations });
      const namespace = await startNamespace();
      const [address = "", address6 = ""] = lease.addresses.map((cidr) => cidr.split("/")[0] ?? "");
      const pod = Object.assign(namespace, { id, lease, address, address6 });
      pods.push(pod);
      await self.network.attach(id, lease, { namespaceFd: namespace.fd });
      return pod;
    },
    async stopPod(pod) {
      pods.splice(pods.indexOf(pod), 1);
      await pod.stop();
      await self.network.detach(pod.id, pod.lease, { namespaceGone: true });
    },
    async portElements() {
      const objects = (await listTable(slot.bridge)).map((object) => object.map ?? object.set);
      return objects.reduce((sum, object) => {
        return sum + (object === undefined || /^(subnets|asking)/.test(object.name) ? 0 : (object.elem?.length ?? 0));
      }, 0);
    },
    rules: async () => (await listTable(slot.bridge)).filter((object) => object.rule !== undefined).length,
    async removePods() {
      const leases = pods.map(({ lease }) => lease);
      for (const pod of [...pods]) await self.stopPod(pod);
      assert.deepEqual(await leftInterfaces(leases), []);
      assert.equal(await self.portElements(), 0);
      await until(() => self.network.describe()["addressesInUse"] === 0, "addresses are free");
      assert.equal(self.network.describe()["hostPortsInUse"], 0);
    },
    async stop() {
      self.network.close();
      await removeBuiltinNetwork(native, slot.bridge);
      await removeBuiltinNetwork(native, slot.bridge);
      rmSync(state, { recursive: true, force: true });
      slot.release();
    },
  };
  await self.network.start();
  const { ready, message } = await self.network.status();
  if (!ready) {
    await self.stop();
    throw new Error(message);
  }
  return self;
}

/** Polls; the kernel, and other programs, take their time. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + patienceMs; !(await condition()); await sleep(20)) {
    if (Date.now() > end) throw new Error(`not within ${patienceMs / 1000} s: ${what}`);
  }
}

/** Host interfaces of pods; the kernel takes them away a while after the namespace's end. */
export async function leftInterfaces(leases: readonly NetworkLease[]): Promise<string[]> {
  const left = () => leases.map((lease) => lease.hostInterface).filter((name) => existsSync(`/sys/class/net/${name}`));
  await until(() => left().length === 0, "interfaces are gone").catch(() => undefined);
  return left();
}

interface Listed {
  map?: { name: string; elem?: unknown[] };
  set?: { name: string; elem?: unknown[] };
  rule?: { chain: string };
}

async function listTable(bridge: string): Promise<Listed[]> {
  const command = { list: { table: { family: "inet", name: tableName(bridge) } } };
  const output = await native.runNftables(JSON.stringify({ nftables: [command] }));
  return (JSON.parse(output) as { nftables: Listed[] }).nftables;
}
