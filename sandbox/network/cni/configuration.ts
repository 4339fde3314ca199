/**
 * CNI network configurations (CNI specification 1.1.0, section 1): lists of plugins, as JSON. The single plugin of the older
 * `.conf` files is a list of one.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import { InvalidArgumentError, messageOf } from "../../errors.js";
import { compareVersions, supportedVersions } from "./versions.js";

/** What a plugin is given on its standard input; what is not named here is the plugin's own. */
export interface PluginConfiguration {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [key: string]: unknown;
}

export interface NetworkConfiguration {
  readonly name: string;
  /** the newest one that the file names and that is known here */
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  readonly plugins: readonly PluginConfiguration[];
  /** the list as JSON: kept with each attachment, so that it can be taken away when the file is another, or gone */
  readonly text: string;
}

const maxFileBytes = 1024 * 1024;

/** A network's name is a part of a file's name in libcni's cache, beside the pod's id and the interface. */
const maxNameLength = 180;

/**
 * `more`: plugins of the network that have files of their own, by its name; they come after those of the list.
 * @throws InvalidArgumentError: a sentence that says what is wrong, without the file's name
 */
export function parseConfiguration(
  text: string,
  more: (network: string) => readonly unknown[] = () => [],
): NetworkConfiguration {
  const value = parseObject(text);
  const isList = Array.isArray(value.plugins);
  const own = isList ? value : listOfOne(value);
  const name = own.name;
  if (typeof name !== "string" || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw new InvalidArgumentError(
      `"name" is ${JSON.stringify(name)}; letters, digits, "_", "." and "-" are needed, a letter or digit first`,
    );
  }
  if (name.length > maxNameLength) throw new InvalidArgumentError(`"name" is longer than ${maxNameLength} characters`);
  const list =
    isList && !flag(own, "loadOnlyInlinedPlugins")
      ? { ...own, plugins: [...(own.plugins as unknown[]), ...more(name)] }
      : own;
  const plugins = (list.plugins as unknown[]).map((plugin, index) => checkPlugin(plugin, `plugins[${index}]`));
  if (plugins.length === 0) throw new InvalidArgumentError('"plugins" is empty');
  return {
    name,
    cniVersion: chooseVersion(list),
    disableCheck: flag(list, "disableCheck"),
    disableGC: flag(list, "disableGC"),
    plugins,
    text: JSON.stringify(list),
  };
}

function parseObject(file: string): Record<string, unknown> {
  // some editors begin with a byte order mark
  const text = file.replace(/^\uFEFF/, "");
  if (text.trim() === "") throw new InvalidArgumentError("it is empty");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(`it is no JSON: ${messageOf(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError("it is no JSON object");
  }
  return value as Record<string, unknown>;
}

function listOfOne(plugin: Record<string, unknown>): Record<string, unknown> {
  if (plugin.type === undefined) throw new InvalidArgumentError('it has neither "plugins" nor "type"');
  const { name, cniVersion } = plugin;
  return { name, ...(cniVersion !== undefined && { cniVersion }), plugins: [plugin] };
}

function checkPlugin(value: unknown, field: string): PluginConfiguration {
  const plugin = value as { type?: unknown; capabilities?: unknown } | null;
  if (typeof plugin !== "object" || plugin === null) throw new InvalidArgumentError(`${field} is no object`);
  const { type, capabilities } = plugin;
  // it becomes a path below the plugins' directories
  if (typeof type !== "string" || !/^[^/\0]+$/.test(type) || type === "." || type === "..") {
    throw new InvalidArgumentError(`${field}.type is ${JSON.stringify(type)}, which names no plugin`);
  }
  const known =
    capabilities === undefined ||
    (typeof capabilities === "object" &&
      capabilities !== null &&
      Object.values(capabilities).every((wanted) => typeof wanted === "boolean"));
  if (!known) throw new InvalidArgumentError(`${field}.capabilities is no object of true and false`);
  return plugin as PluginConfiguration;
}

function chooseVersion({ cniVersion, cniVersions }: Record<string, unknown>): string {
  // a file without a version is of a time before there was the field
  const named = [
    cniVersion === "" ? "0.1.0" : (cniVersion ?? "0.1.0"),
    ...(Array.isArray(cniVersions) ? cniVersions : []),
  ];
  const known = supportedVersions.filter((version) => named.includes(version)).sort(compareVersions);
  const newest = known.at(-1);
  if (newest === undefined) {
    throw new InvalidArgumentError(
      `"cniVersion" is ${named.map((version) => JSON.stringify(version)).join(", ")}; known are ${supportedVersions.join(", ")}`,
    );
  }
  return newest;
}

/** Files in the wild write it as text, too. */
function flag(list: Record<string, unknown>, name: string): boolean {
  const value = list[name];
  if (value === undefined || value === false || value === "false") return false;
  if (value === true || value === "true") return true;
  throw new InvalidArgumentError(`"${name}" is ${JSON.stringify(value)}, neither true nor false`);
}

/** The pods' network: what the first file of the directory says, or why there is none. */
export type ConfiguredNetwork =
  | { network: NetworkConfiguration }
  /** the file; none: there is none; unknown: the directory cannot be read */
  | { problem: string; file: "unusable" | "none" | "unknown" };

/**
 * A directory of configurations. It is read again when a file in it has changed, so that an installer's work shows at once.
 * A file that cannot be used is not passed over for the next one: pods would be put on another network without a word.
 */
export class ConfigurationDirectory {
  /** what was read, and how each was just before: what is written meanwhile is read the next time */
  readonly #read = new Map<string, string>();
  #found: ConfiguredNetwork = { problem: "", file: "none" };

  constructor(readonly directory: string) {}

  /** Whether there is a file, also one that cannot be used. Where nobody can tell, there may be one. */
  get hasFile(): boolean {
    const found = this.current();
    return "network" in found || found.file !== "none";
  }

  /** The same, and only if one was seen. */
  get showsFile(): boolean {
    const found = this.current();
    return "network" in found || found.file === "unusable";
  }

  /** Looks at the directory, whose files are few. */
  current(): ConfiguredNetwork {
    let path: string | undefined;
    try {
      path = firstConfiguration(this.directory);
      if (path === undefined) {
        return { problem: `there is no CNI network configuration in ${this.directory}`, file: "none" };
      }
      const isAsRead = this.#read.has(path) && [...this.#read].every(([read, state]) => stateOf(read) === state);
      if (!isAsRead) {
        this.#read.clear();
        this.#read.set(path, stateOf(path));
        this.#found = { network: parseConfiguration(readText(path), (name) => this.#readMore(name)) };
      }
      return this.#found;
    } catch (error) {
      this.#read.clear();
      return {
        problem: `${path ?? this.directory}: ${messageOf(error)}`,
        file: path === undefined ? "unknown" : "unusable",
      };
    }
  }

  /** As libcni does since 1.3: `<directory>/<network>/*.conf`, a plugin each. */
  #readMore(network: string): unknown[] {
    const directory = join(this.directory, network);
    this.#read.set(directory, stateOf(directory));
    const files = listFiles(directory, [".conf"]).map((name) => join(directory, name));
    return files.map((path) => {
      try {
        this.#read.set(path, stateOf(path));
        return parseObject(readText(path));
      } catch (error) {
        throw new InvalidArgumentError(`${path}: ${messageOf(error)}`);
      }
    });
  }
}

/** What changes when a file is written or replaced, or when something comes into a directory. */
function stateOf(path: string): string {
  const status = statSync(path, { bigint: true, throwIfNoEntry: false });
  return [status?.mtimeNs, status?.ctimeNs, status?.size, status?.ino].join(" ");
}

function firstConfiguration(directory: string): string | undefined {
  const first = listFiles(directory, [".conf", ".conflist", ".json"])[0];
  return first === undefined ? undefined : join(directory, first);
}

/** In lexical order, as everybody who puts files there expects. None: the network's installer makes the directory. */
function listFiles(directory: string, extensions: readonly string[]): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => extensions.includes(extname(name)))
      .sort();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw error;
  }
}

function readText(path: string): string {
  const status = statSync(path);
  if (!status.isFile()) throw new InvalidArgumentError("it is no regular file");
  if (status.size > maxFileBytes) throw new InvalidArgumentError(`it is larger than ${maxFileBytes} bytes`);
  return readFileSync(path, "utf8");
}
