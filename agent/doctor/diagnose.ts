/** Everything that `berth doctor` finds: on this host, and of the agent where one answers. */
import { native } from "../../native/binding.js";
import { openCgroupManager } from "../../sandbox/cgroup/open.js";
import { messageOf } from "../../sandbox/errors.js";
import { networkAtStart } from "../../sandbox/network/chosen.js";
import { ConfigurationDirectory } from "../../sandbox/network/cni/configuration.js";
import { type Client, withClient } from "../cli/client.js";
import { type Config, checkConfig, loadConfig } from "../config.js";
import { mergeConfigTexts } from "../configuration/files.js";
import { examineHost, type Finding, gravestFirst, type Host } from "../doctor.js";
import { forwardDrops, probeNftables } from "../nftables-probe.js";
import { defaultConfigFile } from "../settings.js";
import { leftoverFindings } from "./leftovers.js";
import { examineMachine } from "./machine.js";
import { configuredRegistries, registryFindings } from "./registries.js";

export interface DiagnosisOptions {
  /** undefined: the default one, which may be missing */
  config?: string;
  /** asked whether they can be reached, beside those that hosts.toml files are for */
  registry: readonly string[];
  /** false: no others than `registry` */
  registries: boolean;
}

export interface Diagnosis {
  /** "Linux 6.18, cgroups v2" */
  host: string;
  config: Config;
  /** the gravest first */
  findings: Finding[];
}

const patienceMs = 10_000;

/** What cannot be looked at is a finding, too. */
export async function diagnose(options: DiagnosisOptions): Promise<Diagnosis> {
  const { config, findings } = readConfig(options.config);
  const features = native.probeFeatures();
  const cgroups = findCgroups(findings);
  const registries = new Set(options.registry);
  if (options.registries) for (const name of await configuredRegistries(config.registries)) registries.add(name);
  const agent = await askAgent(config.listen);
  const { storageDriver, bridge, subnets } = config;
  const network = networkAtStart(config.network, () => new ConfigurationDirectory(config.cniConf).hasFile);
  const parts = await Promise.all([
    guarded("the host", () =>
      examineHost({
        root: "/",
        cgroups,
        features,
        network,
        storageDriver,
        bridge,
        subnets,
        listRoutes: () => native.listRoutes({}),
        forwardDrops,
        probeNftables,
      }),
    ),
    guarded("the machine", () => examineMachine({ root: "/", config, network, features, cgroupMode: cgroups.mode })),
    guarded("what is left over", () => leftoverFindings(config, agent?.leaks ?? null)),
    guarded("registries", () => registryFindings([...registries], config.registries)),
  ]);
  findings.push(...parts.flat());
  const known = new Set(findings.map(({ what }) => what));
  findings.push(...(agent?.findings ?? []).filter(({ what }) => !known.has(what)));
  const host = `Linux ${features.release}, cgroups ${cgroups.mode}, ${agent === null ? "no agent answers" : "the agent answers"}`;
  return { host, config, findings: gravestFirst(findings) };
}

/** With the defaults, where the files are refused: the rest of the host is worth a look all the same. */
function readConfig(file: string | undefined): { config: Config; findings: Finding[] } {
  try {
    return { config: loadConfig({}, file ?? null), findings: [] };
  } catch (error) {
    const finding: Finding = {
      id: "ConfigurationRefused",
      severity: "error",
      what: messageOf(error),
      consequence: "an agent that starts takes the configuration that was in force before, if there was one, or ends",
      remedy: `Mend ${file ?? defaultConfigFile}; berth config check says when it is right.`,
      breaks: "RuntimeReady",
    };
    return { config: checkConfig({}, mergeConfigTexts([])), findings: [finding] };
  }
}

/** Where there are none the rest of the host is worth a look, too. */
function findCgroups(findings: Finding[]): Host["cgroups"] {
  try {
    return openCgroupManager();
  } catch (error) {
    findings.push({
      id: "CgroupsMissing",
      severity: "error",
      what: messageOf(error),
      consequence: "the agent does not start",
      remedy: "Mount them: mount -t cgroup2 cgroup2 /sys/fs/cgroup (systemd does, at the boot).",
      breaks: "RuntimeReady",
    });
    return { mode: "v2", missingControllers: [] };
  }
}

async function guarded(what: string, look: () => Finding[] | Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await look();
  } catch (error) {
    return [
      {
        id: "NotExamined",
        severity: "warning",
        what: `${what} cannot be looked at: ${messageOf(error)}`,
        consequence: "what is wrong there stays unknown",
        remedy: "Run it as root.",
      },
    ];
  }
}

interface AgentView {
  findings: Finding[];
  leaks: string[];
}

/** Null: none answers. */
async function askAgent(socket: string): Promise<AgentView | null> {
  try {
    return await withClient({ socket }, async (client) => ({
      findings: await findingsOf(client),
      leaks: (await client.call("FindLeaks", {}, patienceMs)).leaks.map(({ kind, subject }) => `${kind} ${subject}`),
    }));
  } catch {
    return null;
  }
}

async function findingsOf(client: Client): Promise<Finding[]> {
  const { info } = await client.call("Status", { verbose: true }, patienceMs);
  return (JSON.parse(info["info"] ?? "{}") as { findings?: Finding[] }).findings ?? [];
}
