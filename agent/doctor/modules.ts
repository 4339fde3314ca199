import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Finding } from "../doctor.js";
import type { Machine, ReadText } from "./machine.js";

/** A kernel loads a module when something asks for it; but not when it is not on the disk any more. */
export async function moduleFindings(machine: Machine, read: ReadText): Promise<Finding[]> {
  const { root, config, features, network } = machine;
  // a kernel without modules has all that it will ever have
  if (!(await read("proc/modules"))) return [];
  const needed = [
    ...(config.storageDriver === "overlay" ? ["overlay"] : []),
    ...(config.storageDriver === "devmapper" ? ["dm_thin_pool"] : []),
    ...(network === "builtin" ? ["bridge", "veth", "nf_tables", "nft_chain_nat", "nft_masq"] : []),
  ];
  const directory = `lib/modules/${features.release}`;
  const builtIn = (await read(`${directory}/modules.builtin`)) ?? "";
  const missing = needed.filter(
    (name) => !existsSync(join(root, "sys/module", name)) && !builtIn.replaceAll("-", "_").includes(`/${name}.ko`),
  );
  if (missing.length === 0) return [];
  if (!existsSync(join(root, directory))) {
    return [
      {
        id: "ModulesGone",
        severity: "warning",
        what: `/${directory} is not there: the modules of the running kernel are gone (as after an upgrade of its package)`,
        consequence: `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"} not loaded, and cannot be`,
        remedy: "Boot into the kernel that is installed.",
      },
    ];
  }
  const onDisk = (await read(`${directory}/modules.dep`))?.replaceAll("-", "_");
  return missing
    .filter((name) => onDisk !== undefined && !onDisk.includes(`/${name}.ko`))
    .map((name) => ({
      id: "ModuleMissing",
      severity: "warning",
      what: `the kernel module ${name} is neither loaded nor installed`,
      consequence: "what needs it fails when it is first used",
      remedy:
        "Install the package with the rest of the kernel's modules (Debian: linux-image-ARCH, Ubuntu: linux-modules-extra).",
    }));
}
