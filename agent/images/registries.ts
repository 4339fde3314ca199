/**
 * Where a registry is asked: its own address, or what `<directory>/<host>/hosts.toml` says (containerd's format; see
 * docs/registries.md). The files are read at every pull, so that a change needs no restart.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError, messageOf } from "../../sandbox/errors.js";
import { readHostDirectory } from "./hosts-file.js";
import { type RegistryHost, upstream } from "./registry-host.js";

export interface Registries {
  /**
   * In the order they are to be tried; the registry itself comes last.
   * @throws FailedPreconditionError naming the file, and the line when it is known
   */
  hostsOf(registry: string): Promise<RegistryHost[]>;
}

/** @param directories as containerd's config_path: the first that has something for a registry counts; absent: none */
export function openRegistries(directories: readonly string[] = []): Registries {
  return {
    async hostsOf(registry) {
      for (const root of directories) {
        for (const name of directoryNames(registry)) {
          const directory = join(root, name);
          if (await isThere(directory)) return readHostDirectory(directory, registry);
        }
      }
      return [upstream(registry)];
    },
  };
}

/** "r.example_5000_" is for file systems that cannot have a colon. */
function directoryNames(registry: string): string[] {
  const withoutColon = registry.replace(/:([0-9]+)$/, "_$1_");
  return [...new Set([withoutColon, registry, "_default"])];
}

async function isThere(directory: string): Promise<boolean> {
  try {
    return (await stat(directory)).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw new FailedPreconditionError(`${directory} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}
