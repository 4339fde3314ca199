/**
 * Pod networks by CNI plugins: the cluster's own network, when it brings one. The plugins' words are in operations.ts; here
 * is when they are called.
 */
import { statfsSync } from "node:fs";
import type { Addon } from "../../../native/binding.js";
import { InternalError, UnavailableError } from "../../errors.js";
import type { Observer, PodNames } from "../../observer.js";
import { isUnicast } from "../cidr.js";
import { checkHostAddresses } from "../host-addresses.js";
import { checkPortMappings, HostPorts } from "../host-ports.js";
import type {
  CniLease,
  NetworkedPod,
  NetworkLease,
  NetworkProvider,
  NetworkStatus,
  PendingRemoval,
  PodRules,
  PortMapping,
} from "../provider.js";
import { removeCache, writeCache } from "./cache.js";
import { argsOf, capabilityArgsOf } from "./capabilities.js";
import { ConfigurationDirectory, type NetworkConfiguration, parseConfiguration } from "./configuration.js";
import { Examination } from "./examination.js";
import { endLeftoverPlugins } from "./leftover-plugins.js";
import {
  type Attachment,
  addNetwork,
  checkNetwork,
  collectGarbage,
  collectorMark,
  collectsGarbage,
  deleteNetwork,
  type Plugins,
} from "./operations.js";
import { withPatience } from "./patience.js";
import { type Removal, Removals } from "./removals.js";
import { type Json, readResult } from "./result.js";
import { SharedLock } from "./shared-lock.js";

export interface CniNetworkOptions {
  addon: Pick<Addon, "setLoopbackUp" | "unpinNamespace" | "listAddresses">;
  /** "/etc/cni/net.d" */
  configurationDirectory: string;
  /** searched in order */
  pluginDirectories: readonly string[];
  /** libcni's, "/var/lib/cni" */
  cacheDirectory: string;
  /** for what is still to be taken away */
  removalsDirectory: string;
  observer: Observer;
}

const interfaceName = "eth0";
/** How long a pod's end waits for its plugins; what takes longer goes on without the pod. */
const detachPatienceMs = 4_000;
/** How long Status, and the agent's start, wait for what plugins say of a list that they have not been asked about yet. */
const examinationPatienceMs = 2_000;
const garbagePeriodMs = 10 * 60_000;
/** How long pods wait for those before them, so that GC has its turn; then it is put off. */
const quietPatienceMs = 2_000;
const putOffMs = 60_000;
const nsfsMagic = 0x6e736673;

export class CniNetwork implements NetworkProvider {
  readonly name = "cni";
  readonly #addon: CniNetworkOptions["addon"];
  readonly #directory: ConfigurationDirectory;
  readonly #plugins: Plugins;
  readonly #cacheDirectory: string;
  readonly #observer: Observer;
  readonly #removals: Removals;
  readonly #hostPorts = new HostPorts();
  /** attachments that may be there, by pod */
  readonly #attached = new Map<string, NetworkLease>();
  /** commands that an earlier agent may have left running, by pod */
  readonly #inherited = new Map<string, string[]>();
  /** a pod's plugins do one thing at a time */
  readonly #checks = new Map<string, Promise<void>>();
  /** GC counts what is attached: nothing is attached or taken away meanwhile */
  readonly #lock = new SharedLock();
  readonly #examination: Examination;
  #isChosen = false;

  constructor(options: CniNetworkOptions) {
    this.#addon = options.addon;
    this.#directory = new ConfigurationDirectory(options.configurationDirectory);
    const { pluginDirectories: directories, observer, removalsDirectory: collector } = options;
    this.#plugins = { directories, observer, collector };
    this.#examination = new Examination(this.#plugins);
    this.#cacheDirectory = options.cacheDirectory;
    this.#observer = options.observer;
    this.#removals = new Removals({
      directory: options.removalsDirectory,
      remove: (removal) => this.#lock.shared(() => this.#remove(removal)),
      check: ({ podId, lease }) => void [plan(podId, lease), namesIn(lease)],
      onFailure: ({ podId, error: why, attempts, lease }) => {
        const error = new Error(`${why} (attempt ${attempts}; it is tried again)`);
        const [what, pod] = ["take the pod's network away", namesIn(lease)];
        this.#observer.emit({ type: "trouble", what, subject: podId, error, pod, attempts });
      },
    });
  }

  async start(): Promise<void> {
    this.#removals.read((path, why) => this.#trouble("read a removal", path, new Error(why)));
    await this.#endLeftoverPlugins();
    void this.#removals.retry();
    void this.#checkAttachments();
  }

  /** Only now: what belongs to none of our pods may be another runtime's, which works with the same configuration. */
  async choose(): Promise<void> {
    this.#isChosen = true;
    const found = this.#directory.current();
    if ("network" in found) await withPatience(this.#examination.ask(found.network), examinationPatienceMs);
    void this.#collectGarbage();
    setInterval(() => void this.#collectGarbage(), garbagePeriodMs).unref();
  }

  /** Whether somebody has put a configuration there, also one that cannot be used, or may have. */
  isConfigured(): boolean {
    return this.#directory.hasFile;
  }

  /** The same, when a file was seen. */
  showsConfiguration(): boolean {
    return this.#directory.showsFile;
  }

  /** What the directory says now, and what the plugins said lately: they are asked again beside this. */
  async status(): Promise<NetworkStatus> {
    const found = this.#directory.current();
    if ("network" in found) {
      const asked = this.#examination.ask(found.network);
      if (this.#examination.problemOf(found.network) === undefined) await withPatience(asked, examinationPatienceMs);
    }
    return this.#statusNow();
  }

  reserve(podId: string, portMappings: readonly PortMapping[], pod: NetworkedPod): NetworkLease {
    const found = this.#directory.current();
    if ("problem" in found) throw new UnavailableError(`the pod network is not ready: ${found.problem}`);
    // plugins lead a port to the first pod that asked, and say nothing to the second
    const mappings = checkPortMappings(portMappings);
    const args = argsOf(podId, pod);
    const capabilityArgs = capabilityArgsOf(pod, mappings);
    this.#hostPorts.take(podId, mappings);
    return {
      provider: "cni",
      interfaceName,
      hostInterface: "",
      bridge: "",
      mac: "",
      addresses: [],
      gateways: [],
      portMappings: mappings,
      cni: {
        configuration: found.network.text,
        netnsPath: pod.netnsPath,
        args,
        capabilityArgs,
      },
    };
  }

  adopt(podId: string, lease: NetworkLease): void {
    this.#attached.set(podId, lease);
    try {
      this.#hostPorts.take(podId, lease.portMappings);
    } catch (error) {
      // of an agent that did not look at it
      this.#trouble("hold the pod's host ports", podId, error);
    }
  }

  async attach(podId: string, lease: NetworkLease, { namespaceFd }: { namespaceFd: number }): Promise<NetworkLease> {
    const { network, at } = plan(podId, lease);
    if (network.plugins.some(({ capabilities }) => capabilities?.["portMappings"])) {
      await checkHostAddresses(this.#addon, lease.portMappings);
    }
    await this.#addon.setLoopbackUp(namespaceFd);
    return this.#lock.shared(async () => {
      this.#attached.set(podId, lease);
      const result = await addNetwork(network, at, this.#plugins);
      const attached = withResult(lease, result, network);
      this.#attached.set(podId, attached);
      this.#tellOthers(podId, () => writeCache(this.#cacheDirectory, network, at, result));
      return attached;
    });
  }

  async detach(podId: string, lease: NetworkLease): Promise<void> {
    const { netnsPath } = cniOf(lease);
    try {
      // nothing was ever asked of a plugin
      if (!this.#attached.has(podId)) return await this.#addon.unpinNamespace(netnsPath);
      await this.#removals.add({ podId, netnsPath, lease }, detachPatienceMs);
      this.#attached.delete(podId);
    } finally {
      // a plugin that fails must not keep a port from the next pod
      this.#hostPorts.freeAllOf(podId);
    }
  }

  /** Plugins have ranges of their own. */
  async setPodCidr(): Promise<void> {}

  subnets(): readonly string[] {
    return [];
  }

  async podRules(): Promise<PodRules> {
    return { rules: [], drops: [] };
  }

  describe(): Record<string, unknown> {
    const found = this.#directory.current();
    return {
      provider: this.name,
      configurationDirectory: this.#directory.directory,
      pluginDirectories: this.#plugins.directories,
      ...("network" in found && {
        network: found.network.name,
        cniVersion: found.network.cniVersion,
        plugins: found.network.plugins.map(({ type }) => type),
      }),
      status: this.#statusNow(),
      removals: this.pendingRemovals(),
    };
  }

  pendingRemovals(): PendingRemoval[] {
    return this.#removals.list().map(({ podId, lease, since, attempts, error }) => ({
      podId,
      network: plan(podId, lease).network.name,
      since,
      attempts,
      error,
    }));
  }

  async cleanUp(giveUp: readonly string[] = []): Promise<void> {
    await this.#removals.retry();
    for (const podId of giveUp) await this.#giveUp(podId);
    await this.#collectGarbage();
  }

  /** DEL, with the list and the result of then; the namespace is let go of when all has gone. */
  async #remove({ podId, netnsPath, lease }: Removal): Promise<void> {
    const { network, at } = plan(podId, lease);
    if (this.#inherited.has(podId)) {
      await endLeftoverPlugins((given) => given.get("CNI_CONTAINERID") === podId && this.#isInherited(given));
      this.#inherited.delete(podId);
    }
    await this.#checks.get(podId);
    const there = { ...at, netnsPath: isNamespace(netnsPath) ? netnsPath : "" };
    await this.#delete(network, there, cniOf(lease).result);
    this.#tellOthers(podId, () => removeCache(this.#cacheDirectory, network.name, at));
    await this.#addon.unpinNamespace(netnsPath);
  }

  /**
   * With the list of then. A mistake in it, for which the plugins could not add the pod, keeps them from taking it away, too:
   * then with what the administrator has made of that list since.
   */
  async #delete(network: NetworkConfiguration, at: Attachment, result: Json | undefined): Promise<void> {
    try {
      await deleteNetwork(network, at, result, this.#plugins);
    } catch (error) {
      const found = this.#directory.current();
      if (result !== undefined || !("network" in found)) throw error;
      const { name, text } = found.network;
      if (name !== network.name || text === network.text) throw error;
      await deleteNetwork(found.network, at, undefined, this.#plugins);
    }
  }

  /** A plugin that was taken off the node can never be called again. */
  async #giveUp(podId: string): Promise<void> {
    const removal = this.#removals.giveUp(podId);
    if (removal === undefined) return;
    const { network, at } = plan(podId, removal.lease);
    this.#tellOthers(podId, () => removeCache(this.#cacheDirectory, network.name, at));
    try {
      await this.#addon.unpinNamespace(removal.netnsPath);
    } catch (error) {
      this.#trouble("let go of a pod's network namespace", podId, error);
    }
    const what = `the network of an ended pod was given up: ${removal.error}; what its plugins have of it stays`;
    this.#observer.emit({ type: "repaired", what, subject: podId, ...namesIn(removal.lease) });
  }

  #statusNow(): NetworkStatus {
    const found = this.#directory.current();
    const unasked = () => `the plugins of network ${"network" in found ? found.network.name : ""} do not answer`;
    const problem = "problem" in found ? found.problem : (this.#examination.problemOf(found.network) ?? unasked());
    return problem === ""
      ? { ready: true, reason: "", message: "" }
      : { ready: false, reason: "NetworkPluginNotReady", message: problem };
  }

  /** Those of pods that were just coming or going, and GC. What an ADD that has succeeded started is to stay. */
  async #endLeftoverPlugins(): Promise<void> {
    const removed = this.#removals.list().map(({ podId, lease }) => [podId, lease] as const);
    for (const [podId, lease] of [...this.#attached, ...removed]) {
      this.#inherited.set(podId, cniOf(lease).result === undefined ? ["ADD", "DEL"] : ["DEL"]);
    }
    const { collector } = this.#plugins;
    try {
      await endLeftoverPlugins((given) => given.get(collectorMark) === collector || this.#isInherited(given));
      this.#inherited.clear();
    } catch (error) {
      // each removal tries it again for its pod
      this.#trouble("end what an earlier agent has left", "CNI plugins", error);
    }
  }

  #isInherited(given: ReadonlyMap<string, string>): boolean {
    const commands = this.#inherited.get(given.get("CNI_CONTAINERID") ?? "");
    return commands?.includes(given.get("CNI_COMMAND") ?? "") ?? false;
  }

  /** What plugins miss of the pods that an earlier agent has left is told; it is not for us to mend. */
  async #checkAttachments(): Promise<void> {
    for (const [podId, lease] of [...this.#attached]) {
      if (cniOf(lease).result === undefined || !this.#isStaying(podId)) continue;
      const check = this.#check(podId, lease);
      this.#checks.set(podId, check);
      await check;
      this.#checks.delete(podId);
    }
  }

  async #check(podId: string, lease: NetworkLease): Promise<void> {
    try {
      const { network, at } = plan(podId, lease);
      await checkNetwork(network, at, cniOf(lease).result ?? {}, this.#plugins);
    } catch (error) {
      if (this.#isStaying(podId)) this.#trouble("check the pod's network", podId, error);
    }
  }

  #isStaying(podId: string): boolean {
    return this.#attached.has(podId) && !this.#removals.has(podId);
  }

  async #collectGarbage(): Promise<void> {
    const found = this.#directory.current();
    if (!this.#isChosen || "problem" in found || !collectsGarbage(found.network)) return;
    const { network } = found;
    const isOnIt = (podId: string, lease: NetworkLease) => plan(podId, lease).network.name === network.name;
    const collect = (hurry: AbortSignal) => {
      const removed = this.#removals.list().map(({ podId, lease }) => [podId, lease] as const);
      const pods = [...this.#attached, ...removed].filter(([podId, lease]) => isOnIt(podId, lease));
      const valid = [...new Set(pods.map(([podId]) => podId))].map((containerId) => ({ containerId, interfaceName }));
      return collectGarbage(network, valid, this.#plugins, hurry);
    };
    try {
      if (await this.#lock.alone(collect, quietPatienceMs)) return;
      setTimeout(() => void this.#collectGarbage(), putOffMs).unref();
    } catch (error) {
      this.#trouble("collect the network's garbage", network.name, error);
    }
  }

  /** libcni's cache is for other programs: pods come and go without it. */
  #tellOthers(podId: string, tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#trouble("keep libcni's cache of results", podId, error);
    }
  }

  #trouble(what: string, subject: string, error: unknown): void {
    this.#observer.emit({ type: "trouble", what, subject, error });
  }
}

function cniOf(lease: NetworkLease): CniLease {
  if (lease.cni === undefined) throw new InternalError("the lease is not of a CNI network");
  return lease.cni;
}

/** A pod may be gone long before its network is. */
function namesIn(lease: NetworkLease): PodNames {
  const args = new Map(cniOf(lease).args);
  const of = (name: string) => args.get(name) ?? "";
  return { namespace: of("K8S_POD_NAMESPACE"), name: of("K8S_POD_NAME"), uid: of("K8S_POD_UID") };
}

function plan(podId: string, lease: NetworkLease): { network: NetworkConfiguration; at: Attachment } {
  const { configuration, netnsPath, args, capabilityArgs } = cniOf(lease);
  return {
    network: parseConfiguration(configuration),
    at: { containerId: podId, netnsPath, interfaceName, args, capabilityArgs },
  };
}

/** The addresses of the pod's own interface. InternalError: there is none, or the result is malformed. */
function withResult(lease: NetworkLease, raw: Json, { name }: NetworkConfiguration): NetworkLease {
  const { interfaces, ips } = readResult(raw);
  const ofSandbox = (is: (path: string) => boolean) =>
    interfaces.findIndex((one) => one.name === interfaceName && is(one.sandbox ?? ""));
  // there may be another pod's of that name, and the path may be written otherwise
  const exactly = ofSandbox((path) => path === cniOf(lease).netnsPath);
  const own = exactly >= 0 ? exactly : ofSandbox((path) => path !== "");
  const addresses = ips
    // plugins may leave out whose an address is
    .filter((ip) => ip.interface === undefined || own < 0 || ip.interface === own)
    .filter(({ address }, index, all) => all.findIndex((other) => other.address === address) === index);
  if (addresses.length === 0) throw new InternalError(`network ${name} gave the pod no address`);
  const odd = addresses.find(({ address }) => !isUnicast(address));
  if (odd !== undefined) throw new InternalError(`network ${name} gave the pod ${odd.address}, which no pod can have`);
  return {
    ...lease,
    mac: interfaces[own]?.mac ?? "",
    addresses: addresses.map(({ address }) => address),
    gateways: addresses.flatMap(({ gateway }) => gateway ?? []),
    cni: { ...cniOf(lease), result: raw },
  };
}

function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === nsfsMagic;
  } catch {
    return false;
  }
}
