/** No pod network: pods have their own network namespace with nothing but loopback in it. */
import type { Addon } from "../../native/binding.js";
import { FailedPreconditionError } from "../errors.js";
import type {
  NetworkLease,
  NetworkProvider,
  NetworkStatus,
  PendingRemoval,
  PodRules,
  PortMapping,
} from "./provider.js";

export class NoNetwork implements NetworkProvider {
  readonly name = "none";
  readonly #addon: Pick<Addon, "setLoopbackUp">;

  constructor(addon: Pick<Addon, "setLoopbackUp">) {
    this.#addon = addon;
  }

  async start(): Promise<void> {}

  status(): NetworkStatus {
    return { ready: true, reason: "", message: "pods have loopback only (--network none)" };
  }

  reserve(_podId: string, portMappings: readonly PortMapping[] = []): NetworkLease {
    const mapped = portMappings.find(({ hostPort }) => hostPort !== 0);
    if (mapped !== undefined) {
      throw new FailedPreconditionError(
        `host port ${mapped.protocol}/${mapped.hostPort}: the pods of this node have no network to lead it to (--network none)`,
      );
    }
    return {
      provider: "none",
      interfaceName: "",
      hostInterface: "",
      bridge: "",
      mac: "",
      addresses: [],
      gateways: [],
      portMappings: [],
    };
  }

  adopt(): void {}

  async attach(_podId: string, lease: NetworkLease, { namespaceFd }: { namespaceFd: number }): Promise<NetworkLease> {
    await this.#addon.setLoopbackUp(namespaceFd);
    return lease;
  }

  async detach(): Promise<void> {}

  async setPodCidr(): Promise<void> {}

  /** The kernel takes a pod's network away with its namespace: nothing waits for anybody. */
  pendingRemovals(): PendingRemoval[] {
    return [];
  }

  async cleanUp(): Promise<void> {}

  subnets(): readonly string[] {
    return [];
  }

  async podRules(): Promise<PodRules> {
    return { rules: [], drops: [] };
  }

  describe(): Record<string, unknown> {
    return { provider: this.name, status: this.status() };
  }
}
