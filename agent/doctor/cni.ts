import { messageOf } from "../../sandbox/errors.js";
import { ConfigurationDirectory } from "../../sandbox/network/cni/configuration.js";
import { findPlugin } from "../../sandbox/network/cni/plugin.js";
import type { Finding } from "../doctor.js";
import type { Machine } from "./machine.js";

/** Files only; what plugins themselves say is known to an agent that runs. */
export function cniFindings({ network, config: { cniConf, cniBin } }: Machine): Finding[] {
  if (network !== "cni") return [];
  const found = new ConfigurationDirectory(cniConf).current();
  if ("problem" in found) {
    return [
      {
        id: "CniConfigurationMissing",
        severity: "error",
        what: found.problem,
        consequence: "pods with a network of their own cannot start",
        remedy: `Install a network add-on, which writes to ${cniConf}, or set network = "builtin".`,
        breaks: "NetworkReady",
      },
    ];
  }
  return found.network.plugins.flatMap(({ type }): Finding[] => {
    try {
      findPlugin(type, cniBin);
      return [];
    } catch (error) {
      return [
        {
          id: "CniPluginMissing",
          severity: "error",
          what: messageOf(error),
          consequence: `the network "${found.network.name}" cannot be made: no pod with a network of its own starts`,
          remedy: "Install the plugin (Debian: containernetworking-plugins), or name its directory in cni-bin.",
          breaks: "NetworkReady",
        },
      ];
    }
  });
}
