/**
 * The network that the settings choose for new pods, and the others for pods that were made under other settings: each
 * lease goes to the provider that it is of.
 */
import type { Known, Leak } from "../leaks/leak.js";
import type { Observer } from "../observer.js";
import type {
  NetworkedPod,
  NetworkLease,
  NetworkProvider,
  NetworkStatus,
  PendingRemoval,
  PodRules,
  PortMapping,
} from "./provider.js";

/** "auto": CNI's from the first configuration on that is seen, until then the built-in one. */
export type NetworkChoice = NetworkLease["provider"] | "auto";

export function networkAtStart(choice: NetworkChoice, isCniConfigured: () => boolean): NetworkLease["provider"] {
  if (choice !== "auto") return choice;
  return isCniConfigured() ? "cni" : "builtin";
}

interface Providers extends Record<NetworkLease["provider"], NetworkProvider> {
  cni: NetworkProvider & {
    /** also when nobody can tell */
    isConfigured(): boolean;
    showsConfiguration(): boolean;
  };
}

export class ChosenNetwork implements NetworkProvider {
  #latest: NetworkProvider;
  readonly #providers: Providers;
  #isStarted = false;
  /** those that have work: the chosen one, and those of older pods */
  readonly #used: Set<NetworkProvider>;

  constructor(
    private readonly choice: NetworkChoice,
    providers: Providers,
    private readonly observer: Observer,
  ) {
    this.#providers = providers;
    const { cni } = providers;
    this.#latest = providers[networkAtStart(choice, () => cni.isConfigured())];
    // CNI may have removals to finish
    this.#used = new Set([this.#latest, cni]);
  }

  get name(): NetworkProvider["name"] {
    return this.#choose().name;
  }

  async start(): Promise<void> {
    await Promise.all([...this.#used].map((provider) => provider.start()));
    this.#isStarted = true;
    await this.#latest.choose?.();
  }

  close(): void {
    for (const provider of this.#used) provider.close?.();
  }

  status(): NetworkStatus | Promise<NetworkStatus> {
    return this.#choose().status();
  }

  reserve(podId: string, portMappings: readonly PortMapping[], pod: NetworkedPod): NetworkLease {
    return this.#choose().reserve(podId, portMappings, pod);
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
    return this.#choose().setPodCidr(cidr);
  }

  subnets(): readonly string[] {
    return this.#choose().subnets();
  }

  pendingRemovals(): PendingRemoval[] {
    return [...this.#used].flatMap((provider) => provider.pendingRemovals());
  }

  async cleanUp(giveUp: readonly string[] = []): Promise<void> {
    await Promise.all([...this.#used].map((provider) => provider.cleanUp(giveUp)));
  }

  podRules(lease: NetworkLease): Promise<PodRules> {
    return this.#of(lease).podRules(lease);
  }

  describe(): Record<string, unknown> {
    return this.#choose().describe();
  }

  /**
   * A cluster's network may be installed after the agent has started. The way back is the agent's next start alone: an
   * installer that rewrites its file must not put the pods of that moment on another network. For the same reason a
   * directory that cannot be read just now, because no descriptor is left, is none where a configuration has come.
   */
  #choose(): NetworkProvider {
    const { builtin, cni } = this.#providers;
    if (this.choice === "auto" && this.#latest === builtin && cni.showsConfiguration()) {
      this.#latest = cni;
      if (this.#isStarted) void cni.choose?.();
      const sentence = "a CNI configuration has come: new pods get their network by it, those that run keep theirs";
      this.observer.limitation("network auto", sentence);
    }
    return this.#latest;
  }

  #of(lease: NetworkLease): NetworkProvider {
    return this.#providers[lease.provider];
  }
}
