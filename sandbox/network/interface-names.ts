/** The host's interfaces of a pod: the pod's id follows. */
const vethPrefix = "bth";
const ifbPrefix = "btb";

export const veth = new RegExp(`^${vethPrefix}[0-9a-f]{12}$`);
export const ifb = new RegExp(`^${ifbPrefix}[0-9a-f]{12}$`);

/** The host's end of the pod's veth. */
export function vethOf(podId: string): string {
  return `${vethPrefix}${podId.slice(0, 12)}`;
}

/** What the pod's own packets are led through when they are limited; `vethName`: the host's end. */
export function ifbOf(vethName: string): string {
  return vethName.replace(vethPrefix, ifbPrefix);
}
