/**
 * The operations on a network's list of plugins (CNI specification 1.1.0, section 4): each plugin is given what the one
 * before it has made.
 */
import { FailedPreconditionError, InternalError } from "../../errors.js";
import type { Observer } from "../../observer.js";
import type { NetworkConfiguration, PluginConfiguration } from "./configuration.js";
import { type CniCommand, PluginError, runPlugin } from "./plugin.js";
import { convertResult, type Json } from "./result.js";
import { hasCheck, hasGc } from "./versions.js";

/** One interface of one pod on a network. */
export interface Attachment {
  containerId: string;
  /** empty: the namespace is gone */
  netnsPath: string;
  interfaceName: string;
  /** CNI_ARGS, in order */
  args: readonly (readonly [name: string, value: string])[];
  /** by capability; a plugin gets those that its configuration asks for */
  capabilityArgs: Json;
}

export interface Plugins {
  directories: readonly string[];
  /** is told how long each plugin took */
  observer: Observer;
  /** the agent, for the next one to know its GC by */
  collector: string;
}

/** In the environment of GC, which names no container. */
export const collectorMark = "BERTH_GC_OF";

/** STATUS' code for that (CNI specification, section 2). */
const limitedConnectivity = 51;

/** How long a plugin may take: IPAM may ask a server that is busy with a hundred other nodes. */
const timeoutsMs: Readonly<Record<CniCommand, number>> = {
  ADD: 90_000,
  DEL: 60_000,
  CHECK: 30_000,
  STATUS: 10_000,
  // everything else waits for it
  GC: 30_000,
  VERSION: 10_000,
};

/** Answers the last plugin's result. What was made before one fails stays: DEL takes it away. */
export async function addNetwork(network: NetworkConfiguration, at: Attachment, plugins: Plugins): Promise<Json> {
  let result: Json | undefined;
  for (const plugin of network.plugins) {
    const configuration = configurationOf(network, plugin, at, result);
    const printed = await run("ADD", plugin, plugins, configuration, environmentOf(at));
    if (printed === undefined) throw new InternalError(`CNI plugin ${plugin.type} ADD printed no result`);
    result = convertResult(printed, network.cniVersion);
  }
  return result as Json;
}

/**
 * The last plugin first. All are called, whatever one of them says, so that as much as can be is given back; then the first
 * error is thrown. `result`: what addNetwork answered, if it did.
 */
export async function deleteNetwork(
  network: NetworkConfiguration,
  at: Attachment,
  result: Json | undefined,
  plugins: Plugins,
): Promise<void> {
  const errors: unknown[] = [];
  for (const plugin of network.plugins.toReversed()) {
    const previous = hasCheck(network.cniVersion) ? result : undefined;
    const configuration = configurationOf(network, plugin, at, previous);
    try {
      await run("DEL", plugin, plugins, configuration, environmentOf(at));
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** @throws what the first plugin that misses something says */
export async function checkNetwork(
  network: NetworkConfiguration,
  at: Attachment,
  result: Json,
  plugins: Plugins,
): Promise<void> {
  if (network.disableCheck || !hasCheck(network.cniVersion)) return;
  for (const plugin of network.plugins) {
    await run("CHECK", plugin, plugins, configurationOf(network, plugin, at, result), environmentOf(at));
  }
}

/** Whether the network takes pods now. Lists before version 1.1 cannot tell. @throws what a plugin says is missing */
export async function networkStatus(network: NetworkConfiguration, plugins: Plugins): Promise<void> {
  if (!hasGc(network.cniVersion)) return;
  for (const plugin of network.plugins) {
    try {
      await run("STATUS", plugin, plugins, configurationOf(network, plugin), {});
    } catch (error) {
      if (!(error instanceof PluginError) || error.code !== limitedConnectivity) throw error;
      throw new InternalError(`${error.message}; pods that run may have limited connectivity`, { cause: error });
    }
  }
}

/** Whether the administrator and the version of the list let garbage be collected. */
export function collectsGarbage({ disableGC, cniVersion }: NetworkConfiguration): boolean {
  return !disableGC && hasGc(cniVersion);
}

/**
 * Has the plugins free what belongs to none of these attachments, of a list that collectsGarbage.
 * @throws the first plugin's error, after all were called; or, for want of time, not all
 */
export async function collectGarbage(
  network: NetworkConfiguration,
  valid: readonly Pick<Attachment, "containerId" | "interfaceName">[],
  plugins: Plugins,
  hurry?: AbortSignal,
): Promise<void> {
  const attachments = valid.map(({ containerId, interfaceName }) => ({
    containerID: containerId,
    ifname: interfaceName,
  }));
  const errors: unknown[] = [];
  for (const plugin of network.plugins) {
    const configuration = {
      ...configurationOf(network, plugin),
      "cni.dev/valid-attachments": attachments,
      // what the specification's text first called it
      "cni.dev/attachments": attachments,
    };
    try {
      await run("GC", plugin, plugins, configuration, { [collectorMark]: plugins.collector }, hurry);
    } catch (error) {
      errors.push(error);
    }
    if (hurry?.aborted) break;
  }
  if (errors.length > 0) throw errors[0];
}

/** @throws FailedPreconditionError: a plugin is not there, or does not know the list's version */
export async function checkVersions(network: NetworkConfiguration, plugins: Plugins): Promise<void> {
  for (const plugin of network.plugins) {
    const answer = await run("VERSION", plugin, plugins, { cniVersion: network.cniVersion }, {});
    const known = answer?.supportedVersions;
    if (!Array.isArray(known) || !known.includes(network.cniVersion)) {
      throw new FailedPreconditionError(
        `CNI plugin ${plugin.type} knows the versions ${JSON.stringify(known ?? [])}, not ${network.cniVersion} of network ${network.name}`,
      );
    }
  }
}

function run(
  command: CniCommand,
  { type }: PluginConfiguration,
  { directories, observer }: Plugins,
  configuration: Json,
  environment: Record<string, string>,
  hurry?: AbortSignal,
): Promise<Json | undefined> {
  const timeoutMs = timeoutsMs[command];
  return observer.step("cni", `${command} ${type}`, () =>
    runPlugin({ type, command, directories, environment, configuration, timeoutMs, ...(hurry && { hurry }) }),
  );
}

/** CNI specification, section 4, "Deriving request configuration from plugin configuration". */
function configurationOf(
  { name, cniVersion }: NetworkConfiguration,
  plugin: PluginConfiguration,
  at?: Attachment,
  previous?: Json,
): Json {
  const { capabilities = {} } = plugin;
  const runtimeConfig = Object.fromEntries(
    Object.entries(at?.capabilityArgs ?? {}).filter(([capability]) => capabilities[capability]),
  );
  return {
    ...plugin,
    name,
    cniVersion,
    ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
    ...(previous !== undefined && { prevResult: previous }),
  };
}

function environmentOf({ containerId, netnsPath, interfaceName, args }: Attachment): Record<string, string> {
  return {
    CNI_CONTAINERID: containerId,
    CNI_NETNS: netnsPath,
    CNI_IFNAME: interfaceName,
    CNI_ARGS: args.map(([name, value]) => `${name}=${value}`).join(";"),
  };
}
