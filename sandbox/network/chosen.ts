/**
 * The network that the settings choose for new pods, and the others for pods that were made under other settings: each
 * lease goes to the provider that it is of.
 */
import type { Known, Leak } from "../leaks/leak.js";
import type {
  NetworkedPod,
  NetworkLease,
  NetworkProvider,
  NetworkStatus,
  PendingRemoval,
  PodRules,
  PortMapping,
} from "./provider.js";

export class ChosenNetwork implements NetworkProvider {
  readonly #chosen: NetworkProvider;
  readonly #providers: Readonly<Record<NetworkLease["provider"], NetworkProvider>>;
  /** those that have work: the chosen one, and those of older pods */
  readonly #used: Set<NetworkProvider>;

  constructor(chosen: NetworkLease["provider"], providers: Record<NetworkLease["provider"], NetworkProvider>) {
    this.#chosen = providers[chosen];
    this.#providers = providers;
    // CNI may have removals to finish
    this.#used = new Set([this.#chosen, providers.cni]);
  }

  get name(): NetworkProvider["name"] {
    return this.#chosen.name;
  }

  async start(): Promise<void> {
    await Promise.all([...this.#used].map((provider) => provider.start()));
  }

  close(): void {
    for (const provider of this.#used) provider.close?.();
  }

  status(): NetworkStatus {
    return this.#chosen.status();
  }

  reserve(podId: string, portMappings: readonly PortMapping[], pod: NetworkedPod): NetworkLease {
    return this.#chosen.reserve(podId, portMappings, pod);
  }

  adopt(podId: string, lease: NetworkLease): void {
    const provider = this.#of(lease);
    this.#used.add(provider);
    provider.adopt(podId, lease);
  }

  async leaks(known: Known): Promise<Leak[]> {
    return (await Promise.all([...this.#used].map((provider) => provider.leaks?.(known) ?? []))).flat();
  }

  attach(podId: string, lease: NetworkLease, options: { namespaceFd: number }): Promise<NetworkLease> {
    return this.#of(lease).attach(podId, lease, options);
  }

  detach(podId: string, lease: NetworkLease, options: { namespaceGone: boolean }): Promise<void> {
    return this.#of(lease).detach(podId, lease, options);
  }

  setPodCidr(cidr: string): Promise<void> {
    return this.#chosen.setPodCidr(cidr);
  }

  subnets(): readonly string[] {
    return this.#chosen.subnets();
  }

  pendingRemovals(): PendingRemoval[] {
    return [...this.#used].flatMap((provider) => provider.pendingRemovals());
  }

  async cleanUp(): Promise<void> {
    await Promise.all([...this.#used].map((provider) => provider.cleanUp()));
  }

  podRules(lease: NetworkLease): Promise<PodRules> {
    return this.#of(lease).podRules(lease);
  }

  describe(): Record<string, unknown> {
    return this.#chosen.describe();
  }

  #of(lease: NetworkLease): NetworkProvider {
    return this.#providers[lease.provider];
  }
}
