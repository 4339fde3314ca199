/** The pod's network: attached once the pod's namespaces are there, and taken away after its last process. */
import { existsSync } from "node:fs";
import { native } from "../native/binding.js";
import type { SandboxNode } from "./node.js";
import { podDirectory } from "./paths.js";
import type { Pod } from "./pod.js";
import { writePodHosts } from "./pod-files.js";
import { learn, update } from "./store.js";
import { together } from "./undo.js";

/** Interfaces, addresses and host ports. What a failure leaves goes with removePodNetwork. */
export async function attachPodNetwork(node: SandboxNode, pod: Pod): Promise<void> {
  const { id, netnsPath, network } = pod.record;
  if (network === null) return;
  const namespaceFd = native.openPath(netnsPath);
  try {
    const attached = await node.network.attach(id, network, { namespaceFd });
    if (attached === network) return;
    // only the plugins knew the addresses
    const addresses = attached.addresses.map((cidr) => cidr.split("/")[0] ?? cidr);
    update(node.store.pods, pod, { network: attached, addresses });
    writePodHosts(podDirectory(node.paths, id), pod.config, addresses);
  } finally {
    native.closeDescriptor(namespaceFd);
  }
}

/** Gone already is success. A namespace that plugins still need stays pinned until they are done. */
export async function removePodNetwork(node: SandboxNode, pod: Pod): Promise<void> {
  const { id, netnsPath, network } = pod.record;
  if (network === null) return;
  // what was never pinned needs no thread, and there may be none to be had
  const isPinned = network.provider !== "cni" && existsSync(netnsPath);
  await together(
    () => (isPinned ? native.unpinNamespace(netnsPath) : Promise.resolve()),
    () => node.network.detach(id, network, { namespaceGone: true }),
  );
  learn(node.store.pods, pod, { network: null });
}
