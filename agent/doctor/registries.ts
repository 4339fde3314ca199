import type { Dirent } from "node:fs";
import { readdir } from "node:fs/promises";
import { messageOf } from "../../sandbox/errors.js";
import type { Finding } from "../doctor.js";
import { openHttpClient } from "../images/http.js";
import { openRegistries } from "../images/registries.js";
import type { RegistryHost } from "../images/registry-host.js";
import { clockAgainst } from "./clock.js";

const patienceMs = 5_000;
const mostAsked = 16;

/** Those that the configuration names: a directory HOST in one of them. */
export async function configuredRegistries(directories: readonly string[]): Promise<string[]> {
  const lists = await Promise.all(
    directories.map((directory) => readdir(directory, { withFileTypes: true }).catch((): Dirent[] => [])),
  );
  const names = lists
    .flat()
    .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    .map(({ name }) => name.replace(/_([0-9]+)_$/, ":$1"));
  return [...new Set(names)].filter((name) => name !== "_default" && !name.startsWith("."));
}

/** Asks each host of the registries for its API's root, all at once. Nobody's credentials are sent. */
export async function registryFindings(names: readonly string[], directories: readonly string[]): Promise<Finding[]> {
  const registries = openRegistries(directories);
  const findings = await Promise.all(
    names.slice(0, mostAsked).map(async (name): Promise<Finding[]> => {
      try {
        const hosts = await registries.hostsOf(name);
        return (await Promise.all(hosts.map((host) => askHost(name, host)))).flat();
      } catch (error) {
        const what = `the configuration of the registry ${name} cannot be used: ${messageOf(error)}`;
        const remedy = "Mend the file (docs/registries.md has its words).";
        return [{ id: "RegistryMisconfigured", severity: "warning", what, consequence: pullsFail(name), remedy }];
      }
    }),
  );
  const left = names.slice(mostAsked);
  if (left.length === 0) return findings.flat();
  return [
    ...findings.flat(),
    {
      id: "RegistriesNotAsked",
      severity: "note",
      what: `${left.length} registries were not asked: ${left.join(", ")}`,
      consequence: "nothing is known of them",
      remedy: "Ask for one by berth doctor --registry HOST.",
    },
  ];
}

async function askHost(registry: string, host: RegistryHost): Promise<Finding[]> {
  const { hostname, host: address } = new URL(host.baseUrl);
  const mirror = host.mirrorOf === undefined ? "" : `, a mirror of ${registry},`;
  const problem = (what: string, remedy: string): Finding => ({
    id: "RegistryUnreachable",
    severity: "warning",
    what: `${address}${mirror} ${what}`,
    consequence: mirror === "" ? pullsFail(registry) : "each pull waits for it in vain, and goes on to the next host",
    remedy,
  });
  const client = await openHttpClient(host, { stallMs: patienceMs, retryMs: 0 });
  const signal = AbortSignal.timeout(patienceMs);
  try {
    const answer = await client.request({ url: `${host.baseUrl}/`, headers: { ...host.headers }, signal });
    answer.body.destroy();
    const { status, headers } = answer;
    const clock = clockAgainst([headers.date ?? ""].flat()[0], address);
    // who it is, or that one is nobody, is for a pull to say
    if (status < 400 || status === 401 || status === 403) return clock;
    if (status === 404)
      return [
        ...clock,
        problem(
          "has no registry's API (HTTP 404 for /v2/)",
          "See whether it is the right host, and the path in hosts.toml.",
        ),
      ];
    return [...clock, problem(`answers HTTP ${status}`, "See to the registry.")];
  } catch (error) {
    const why = signal.aborted
      ? `does not answer within ${patienceMs / 1000} s`
      : `cannot be reached: ${messageOf(error)}`;
    return [problem(why, remedyOf(messageOf(error), hostname))];
  } finally {
    await client.close();
  }
}

function pullsFail(registry: string): string {
  return `images of ${registry} cannot be pulled; those that are here already can be used`;
}

function remedyOf(why: string, hostname: string): string {
  if (/ENOTFOUND|EAI_AGAIN/.test(why)) return `See to the name service: getent hosts ${hostname}.`;
  if (/certificate|CERT|altname|self.signed/i.test(why))
    return 'Name its authority in hosts.toml (ca = "..."), renew the certificate, or see to this machine\'s clock.';
  if (/ECONNREFUSED/.test(why)) return "Start it, or mend its port in hosts.toml.";
  return "See to routes, firewalls and proxies (HTTPS_PROXY, NO_PROXY of the agent) on the way to it.";
}
