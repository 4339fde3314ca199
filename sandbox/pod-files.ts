/** The files that every container of a pod gets: /etc/resolv.conf, /etc/hostname, /etc/hosts. */
import { chmodSync, chownSync, readFileSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { runtime } from "../cri-proto/generated/runtime.js";
import { InvalidArgumentError } from "./errors.js";
import type { PodSandboxConfig } from "./pod.js";
import { podUserNamespace } from "./spec/user-namespace.js";

const { NamespaceMode } = runtime.v1;

const maxHostnameBytes = 64;

/** The hostname that the pod's UTS namespace gets; empty: it is the host's. InvalidArgumentError: it cannot be one. */
export function hostnameOf(config: PodSandboxConfig): string {
  if (usesHostNetwork(config)) return "";
  const name = config.hostname ?? "";
  // the kubelet ends a whole name (setHostnameAsFQDN) with a dot where the cluster has no domain
  const isName = /^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?\.?$/.test(name);
  if (name !== "" && (name.length > maxHostnameBytes || !isName)) {
    throw new InvalidArgumentError(
      `config.hostname: ${JSON.stringify(name)} is no hostname of at most ${maxHostnameBytes} bytes`,
    );
  }
  return name;
}

/**
 * Writes the three files into the pod's run directory, readable by all; they belong to the pod's root. `addresses`: the pod's
 * own, without lengths.
 */
export function writePodFiles(directory: string, config: PodSandboxConfig, addresses: readonly string[]): void {
  const owner = ownerOf(config);
  write(join(directory, "resolv.conf"), resolvConf(config.dns_config), owner);
  write(join(directory, "hostname"), `${hostnameOf(config) || hostname()}\n`, owner);
  writePodHosts(directory, config, addresses);
}

/** /etc/hosts alone, which has the pod's addresses. */
export function writePodHosts(directory: string, config: PodSandboxConfig, addresses: readonly string[]): void {
  const name = hostnameOf(config) || hostname();
  const content = usesHostNetwork(config) ? readHostFile("/etc/hosts") : hosts(name, addresses);
  write(join(directory, "hosts"), content, ownerOf(config));
}

/** The pod's root. */
function ownerOf(config: PodSandboxConfig): { uid: number; gid: number } {
  const users = podUserNamespace(config);
  return { uid: users?.uids.hostID ?? 0, gid: users?.gids.hostID ?? 0 };
}

/** Without servers, searches and options a pod resolves names as its host does. */
export function resolvConf(dns: runtime.v1.IDNSConfig | null | undefined): string {
  const servers = dns?.servers ?? [];
  const searches = dns?.searches ?? [];
  const options = dns?.options ?? [];
  if (servers.length + searches.length + options.length === 0) return readHostFile("/etc/resolv.conf");
  for (const [index, server] of servers.entries()) {
    if (isIP(server) === 0) {
      throw new InvalidArgumentError(`config.dns_config.servers[${index}]: ${JSON.stringify(server)} is no IP address`);
    }
  }
  checkWords(searches, "config.dns_config.searches");
  checkWords(options, "config.dns_config.options");
  return [
    searches.length > 0 ? `search ${searches.join(" ")}\n` : "",
    ...servers.map((server) => `nameserver ${server}\n`),
    options.length > 0 ? `options ${options.join(" ")}\n` : "",
  ].join("");
}

/** A space or a line's end in one of them would begin another setting. */
function checkWords(list: readonly string[], field: string): void {
  for (const [index, word] of list.entries()) {
    if (!/^[!-~]+$/.test(word))
      throw new InvalidArgumentError(`${field}[${index}]: ${JSON.stringify(word)} is no word`);
  }
}

function hosts(name: string, addresses: readonly string[]): string {
  return [
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
    ...addresses.map((address) => `${address}\t${name}`),
    "",
  ].join("\n");
}

function usesHostNetwork(config: PodSandboxConfig): boolean {
  return config.linux?.security_context?.namespace_options?.network === NamespaceMode.NODE;
}

function readHostFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // a host without the file gives its pods an empty one
    return "";
  }
}

function write(path: string, content: string, { uid, gid }: { uid: number; gid: number }): void {
  writeFileSync(path, content, { mode: 0o644 });
  // whatever the agent's umask is
  chmodSync(path, 0o644);
  if (uid !== 0 || gid !== 0) chownSync(path, uid, gid);
}
