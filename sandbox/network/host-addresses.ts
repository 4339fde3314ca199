import type { Addon } from "../../native/binding.js";
import { InvalidArgumentError } from "../errors.js";
import { isHostAddress } from "./host-ports.js";
import type { PortMapping } from "./provider.js";
import { withoutPrefix } from "./subnets.js";

/** InvalidArgumentError: a port on an address that no interface of the host has would answer nobody. */
export async function checkHostAddresses(
  addon: Pick<Addon, "listAddresses">,
  ports: readonly PortMapping[],
): Promise<void> {
  const asked = ports.map(({ hostIp }) => hostIp).filter((hostIp) => isHostAddress(hostIp));
  if (asked.length === 0) return;
  const own = new Set((await addon.listAddresses({})).map(({ address }) => withoutPrefix(address)));
  for (const hostIp of asked) {
    if (!own.has(hostIp)) throw new InvalidArgumentError(`port_mappings: host_ip ${hostIp} is no address of this host`);
  }
}
