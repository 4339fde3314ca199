import type { Command } from "commander";
import type { Finding } from "../doctor.js";
import { printJson } from "./output.js";

interface DoctorOptions {
  config?: string;
  json?: boolean;
}

/** `berth doctor`: looks at this host itself, so that it helps where the agent does not start. */
export function addTo(parent: Command): void {
  parent
    .command("doctor")
    .description("say what this host has and lacks; ends with 1 when pods cannot run")
    .option("--config <FILE>", "the agent's settings")
    .option("--json", "print JSON")
    .action(doctor);
}

async function doctor(options: DoctorOptions): Promise<void> {
  const [{ loadConfig }, { examineHost }, { native }, { openCgroupManager }, probes, chosen, cni] = await Promise.all([
    import("../config.js"),
    import("../doctor.js"),
    import("../../native/binding.js"),
    import("../../sandbox/cgroup/open.js"),
    import("../nftables-probe.js"),
    import("../../sandbox/network/chosen.js"),
    import("../../sandbox/network/cni/configuration.js"),
  ]);
  const { network, cniConf, storageDriver, bridge, subnets } = loadConfig({}, options.config ?? null);
  const features = native.probeFeatures();
  const cgroups = openCgroupManager();
  const findings = await examineHost({
    root: "/",
    cgroups,
    features,
    network: chosen.networkAtStart(network, () => new cni.ConfigurationDirectory(cniConf).hasFile),
    storageDriver,
    bridge,
    subnets,
    listRoutes: () => native.listRoutes({}),
    ...probes,
  });
  if (options.json) printJson(findings);
  else print(findings, `Linux ${features.release}, cgroups ${cgroups.mode}`);
  process.exitCode = findings.some(({ severity }) => severity === "error") ? 1 : 0;
}

function print(findings: readonly Finding[], host: string): void {
  process.stdout.write(`${host}\n`);
  for (const { severity, what, consequence, remedy } of findings) {
    process.stdout.write(`\n${severity.padEnd(7)}  ${what}\n         ${consequence}\n         ${remedy}\n`);
  }
  if (findings.length === 0) process.stdout.write("nothing is missing\n");
}
