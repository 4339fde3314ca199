/** Whether pods' subnets get along with the host's routes. Pure. */
import type { Route } from "../../native/binding.js";
import { contains, parseCidr } from "./cidr.js";

export interface Overlap {
  subnet: string;
  route: Route;
  /** the route is for a part of the subnet, or for all of it: pods there could not be reached, or those whom it leads to.
   *  Otherwise the subnet is a part of what the route is for: only those there with pods' addresses cannot be reached */
  within: boolean;
}

const mainTable = 254;

/** The host's routes, but for the bridge's own and the default ones, that share addresses with a subnet. */
export function findOverlaps(subnets: readonly string[], bridge: string, routes: readonly Route[]): Overlap[] {
  return routes
    .filter(({ table, interface: name, destination }) => {
      return table === mainTable && name !== bridge && !destination.endsWith("/0");
    })
    .flatMap((route) => {
      const there = parseCidr(route.destination);
      return subnets.flatMap((subnet): Overlap[] => {
        const own = parseCidr(subnet);
        if (contains(own, { family: there.family, value: there.network })) return [{ subnet, route, within: true }];
        const around = contains(there, { family: own.family, value: own.network });
        return around ? [{ subnet, route, within: false }] : [];
      });
    });
}

/** "10.88.0.0/16 via 10.0.0.1 dev eth0" */
export function formatRoute({ destination, gateway, interface: name }: Route): string {
  return [destination, gateway && `via ${gateway}`, name && `dev ${name}`].filter((part) => part !== "").join(" ");
}
