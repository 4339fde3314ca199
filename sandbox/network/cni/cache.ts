/**
 * The cache of attachments that libcni keeps, in its place and its form ("cniCacheV1"): there other programs look for what a
 * runtime has attached. Berth itself works from the pod's record.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkConfiguration } from "./configuration.js";
import type { Attachment } from "./operations.js";
import type { Json } from "./result.js";

/** `directory`: "/var/lib/cni" */
export function writeCache(directory: string, network: NetworkConfiguration, at: Attachment, result: Json): void {
  const results = join(directory, "results");
  mkdirSync(results, { recursive: true, mode: 0o700 });
  const content = {
    kind: "cniCacheV1",
    containerId: at.containerId,
    config: Buffer.from(network.text).toString("base64"),
    ifName: at.interfaceName,
    networkName: network.name,
    netns: at.netnsPath,
    cniArgs: at.args,
    capabilityArgs: at.capabilityArgs,
    result,
  };
  writeFileSync(pathOf(directory, network.name, at), JSON.stringify(content), { mode: 0o600 });
}

/** Nothing there is success. */
export function removeCache(directory: string, networkName: string, at: Attachment): void {
  rmSync(pathOf(directory, networkName, at), { force: true });
}

function pathOf(directory: string, networkName: string, { containerId, interfaceName }: Attachment): string {
  return join(directory, "results", `${networkName}-${containerId}-${interfaceName}`);
}
