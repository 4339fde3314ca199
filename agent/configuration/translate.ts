/**
 * Settings of containerd (config.toml of versions 1 to 3) and of CRI-O (crio.conf) in Berth's words. Where their pods and
 * images lie is not carried over: both can run beside Berth, and neither may touch the other's.
 */
import { isAbsolute } from "node:path";
import { parse, stringify, TomlError } from "smol-toml";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { isHandler } from "../oci-runtimes.js";

/** One of theirs; of several, the later ones' keys win, as in conf.d directories and containerd's imports. */
export interface TheirFile {
  readonly path: string;
  readonly text: string;
}

export interface Translation {
  /** of Berth's config.toml */
  readonly settings: Record<string, unknown>;
  /** what has no equal: the key, and why where there is a reason */
  readonly left: readonly { key: string; why: string }[];
}

type Value = string | number | boolean | unknown[];
/** undefined: nothing is to be set, since Berth's default does the same */
type Rule = (value: Value, names: readonly string[]) => Record<string, unknown> | string | undefined;

const noPause = "Berth has no pause container";
const ownPlace = "Berth keeps its own things in directories of its own";
const inHosts = "a hosts.toml in --registries says it (registries.md)";
const noSignatures = "Berth checks no signatures";

/** Keys as they are in containerd's files; "*" is any one name. A rule that answers a text says why nothing is set. */
const containerdRules: Record<string, Rule> = {
  root: () => ownPlace,
  state: () => ownPlace,
  "grpc.address": () => "the kubelet is to be told Berth's socket: unix:///run/berth/berth.sock",
  "debug.level": (value) => logLevel(value),
  "metrics.address": (value) => ({ metrics: value }),
  "cri.sandbox_image": () => noPause,
  "cri.pinned_images.sandbox": () => noPause,
  "cri.sandbox": () => noPause,
  "cri.pinned_images.*": (value) => ({ "pinned-images": [value] }),
  "cri.max_container_log_line_size": (value) =>
    Number(value) > 0
      ? { "log-line-bytes": Math.max(256, Math.min(Number(value), 131_072)) }
      : "Berth's lines have a limit always",
  "cri.cdi_spec_dirs": (value) => ({ "cdi-dirs": list(value).join(",") }),
  "cri.enable_cdi": (value) =>
    value === false ? "Berth looks for CDI devices always, when a pod asks for one" : undefined,
  "cri.registry.config_path": (value) => ({ registries: value }),
  "cri.registry.mirrors.*.endpoint": () => inHosts,
  "cri.registry.configs.*.tls.*": () => inHosts,
  "cri.registry.configs.*.auth.*": () => inHosts,
  "cri.cni.bin_dir": (value) => ({ "cni-bin": value }),
  "cri.cni.bin_dirs": (value) => ({ "cni-bin": list(value).join(",") }),
  "cri.cni.conf_dir": (value) => ({ "cni-conf": value }),
  "cri.containerd.snapshotter": (value) => snapshotter(value),
  "cri.snapshotter": (value) => snapshotter(value),
  "cri.systemd_cgroup": (value) => (value === true ? { "cgroup-driver": "systemd" } : undefined),
  "cri.containerd.default_runtime_name": (value) =>
    value === "runc" ? undefined : "pods without a RuntimeClass have Berth's own launcher",
  "cri.containerd.runtimes.*.runtime_type": (value) =>
    String(value) === "io.containerd.runc.v2"
      ? undefined
      : "Berth drives OCI runtimes themselves, not containerd's shims",
  "cri.containerd.runtimes.*.options.SystemdCgroup": (value) =>
    value === true ? { "cgroup-driver": "systemd" } : undefined,
  "cri.containerd.runtimes.*.options.BinaryName": ociRuntime,
  "cri.stream_server_address": (value) => ({ streamHost: value }),
  "cri.stream_server_port": (value) => ({ streamPort: value }),
  "cri.x509_key_pair_streaming.tls_cert_file": (value) => ({ "streams-cert": value }),
  "cri.x509_key_pair_streaming.tls_key_file": (value) => ({ "streams-key": value }),
};

const crioRules: Record<string, Rule> = {
  root: () => ownPlace,
  runroot: () => ownPlace,
  storage_driver: (value) => snapshotter(value === "vfs" ? "native" : value),
  "api.listen": () => "the kubelet is to be told Berth's socket: unix:///run/berth/berth.sock",
  "api.stream_address": (value) => ({ streamHost: value }),
  "api.stream_port": (value) => ({ streamPort: value }),
  "api.stream_tls_cert": (value) => ({ "streams-cert": value }),
  "api.stream_tls_key": (value) => ({ "streams-key": value }),
  "api.stream_enable_tls": () => undefined,
  "runtime.log_level": (value) => logLevel(value),
  "runtime.cgroup_manager": (value) => ({ "cgroup-driver": value }),
  "runtime.default_ulimits": (value) => ({ rlimits: ulimits(list(value)) }),
  "runtime.hooks_dir": (value) =>
    list(value).length === 1 ? { "hooks-dir": list(value)[0] } : "Berth reads hooks from one directory",
  "runtime.cdi_spec_dirs": (value) => ({ "cdi-dirs": list(value).join(",") }),
  "runtime.default_runtime": (value) =>
    ["runc", "crun"].includes(String(value)) ? undefined : "pods without a RuntimeClass have Berth's own launcher",
  "runtime.runtimes.*.runtime_path": ociRuntime,
  "runtime.runtimes.*.runtime_type": (value) =>
    value === "vm" ? "Berth drives OCI runtimes themselves, not shims" : undefined,
  "image.pause_image": () => noPause,
  "image.pause_command": () => noPause,
  "image.insecure_registries": () => inHosts,
  "image.signature_policy": () => noSignatures,
  "image.signature_policy_dir": () => noSignatures,
  "image.pinned_images": (value) => ({ "pinned-images": list(value) }),
  "network.network_dir": (value) => ({ "cni-conf": value }),
  "network.plugin_dirs": (value) => ({ "cni-bin": list(value).join(",") }),
  "metrics.enable_metrics": (value) => (value === false ? { metrics: "off" } : undefined),
  "metrics.metrics_host": (value) => ({ metricsHost: value }),
  "metrics.metrics_port": (value) => ({ metricsPort: value }),
};

/** @throws InvalidArgumentError when a text is not TOML, or not containerd's */
export function translateContainerd(files: readonly TheirFile[]): Translation {
  const { plugins, crio, ...rest } = together(files);
  if (crio !== undefined) throw new InvalidArgumentError(`${namesOf(files)}: this is CRI-O's: take from-crio`);
  const cri: Record<string, unknown> = {};
  const others: Record<string, unknown> = {};
  for (const [id, settings] of Object.entries(table(plugins))) {
    const isCri = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"];
    if (isCri.includes(id)) Object.assign(cri, merged(cri, table(settings)));
    else others[id] = settings;
  }
  return translate({ ...rest, cri, plugins: others }, containerdRules, ["version"]);
}

/** @throws InvalidArgumentError when a text is not TOML, or not CRI-O's */
export function translateCrio(files: readonly TheirFile[]): Translation {
  const { crio, ...others } = together(files);
  const [other] = Object.keys(others);
  if (other !== undefined)
    throw new InvalidArgumentError(`${namesOf(files)}: "${other}" is none of CRI-O's: it has [crio]`);
  return translate(table(crio), crioRules, []);
}

function together(files: readonly TheirFile[]): Record<string, unknown> {
  return files.map(({ text, path }) => toml(text, path)).reduce((before, file) => merged(before, file, "replace"), {});
}

function namesOf(files: readonly TheirFile[]): string {
  return files.map(({ path }) => path).join(", ");
}

/** A config.toml. */
export function translationText({ settings, left }: Translation, files: readonly Pick<TheirFile, "path">[]): string {
  const lines = left.map(({ key, why }) => `#   ${key}${why === "" ? "" : `: ${why}`}`);
  const rest = lines.length === 0 ? "" : `\n# Not carried over:\n${lines.join("\n")}\n`;
  return `# From ${files.map(({ path }) => JSON.stringify(path)).join(", ")}\n${stringify(settings)}${rest}`;
}

function translate(
  values: Record<string, unknown>,
  rules: Record<string, Rule>,
  ignored: readonly string[],
): Translation {
  // both have their pods' network from CNI, and from nothing else
  const found: Record<string, unknown> = { network: "cni" };
  const left: { key: string; why: string }[] = [];
  for (const [key, value] of leaves(values, [])) {
    if (ignored.includes(key.join(".")) || saysNothing(value)) continue;
    const match = Object.entries(rules).find(([pattern]) => matches(pattern.split("."), key));
    if (match === undefined) {
      if (value !== false) left.push({ key: key.join("."), why: "" });
      continue;
    }
    const [pattern, rule] = match;
    const names = key.filter((_, index) => pattern.split(".")[index] === "*");
    const answer = rule(value, names);
    if (typeof answer === "string") left.push({ key: key.join("."), why: answer });
    else if (answer !== undefined) Object.assign(found, merged(found, answer));
  }
  return { settings: finished(found), left };
}

/** Their default files have every key: one that is empty is not set. */
function saysNothing(value: Value): boolean {
  return value === "" || value === 0 || (Array.isArray(value) && value.length === 0);
}

/** Puts together what two keys of theirs make of one of Berth's. */
function finished(found: Record<string, unknown>): Record<string, unknown> {
  const { streamHost, streamPort, metricsHost, metricsPort, "pinned-images": pinned, ...settings } = found;
  if (streamHost !== undefined || streamPort !== undefined) {
    settings["streams"] = address(streamHost ?? "127.0.0.1", streamPort ?? 0);
  }
  if ((metricsHost !== undefined || metricsPort !== undefined) && settings["metrics"] === undefined) {
    settings["metrics"] = address(metricsHost ?? "127.0.0.1", metricsPort ?? 9090);
  }
  if (pinned !== undefined) settings["pinned-images"] = list(pinned as Value).join(",");
  return settings;
}

function address(host: unknown, port: unknown): string {
  const name = String(host) === "" ? "0.0.0.0" : String(host);
  return name.includes(":") ? `[${name}]:${String(port)}` : `${name}:${String(port)}`;
}

function logLevel(value: Value): Record<string, unknown> {
  const levels: Record<string, string> = { trace: "debug", fatal: "error", panic: "error", warning: "warn" };
  return { "log-level": levels[String(value)] ?? value };
}

function snapshotter(value: Value): Record<string, unknown> | string | undefined {
  const drivers: Record<string, string> = {
    overlayfs: "overlay",
    overlay: "overlay",
    btrfs: "btrfs",
    native: "copy",
    devmapper: "devmapper",
  };
  const driver = drivers[String(value)];
  return driver === undefined
    ? `Berth has no storage driver for ${JSON.stringify(value)}`
    : { "storage-driver": driver };
}

/** "nofile=1024:2048", as Docker's --ulimit */
function ulimits(texts: readonly unknown[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [name = "", limits = ""] = String(text).split("=");
      return [name, limits.replaceAll("-1", "unlimited")];
    }),
  );
}

function ociRuntime(path: Value, [name = ""]: readonly string[]): Record<string, unknown> | string {
  if (!isHandler(name)) return "no RuntimeClass can name it";
  if (!isAbsolute(String(path))) return "Berth looks for no program in the PATH: name its whole path";
  return { runtimes: { [name]: { path } } };
}

function list(value: Value): unknown[] {
  return Array.isArray(value) ? value : [value];
}

/** Tables of both, and lists unless they are replaced; of other values the second's. */
function merged(
  first: Record<string, unknown>,
  second: Record<string, unknown>,
  lists: "append" | "replace" = "append",
): Record<string, unknown> {
  const result = { ...first };
  for (const [key, value] of Object.entries(second)) {
    const before = result[key];
    if (lists === "append" && Array.isArray(before) && Array.isArray(value))
      result[key] = [...(before as unknown[]), ...(value as unknown[])];
    else if (isTable(before) && isTable(value)) result[key] = merged(before, value, lists);
    else result[key] = value;
  }
  return result;
}

function* leaves(value: unknown, key: readonly string[]): Generator<[string[], Value]> {
  if (isTable(value)) {
    for (const [name, deeper] of Object.entries(value)) yield* leaves(deeper, [...key, name]);
  } else {
    yield [[...key], value as Value];
  }
}

function matches(pattern: readonly string[], key: readonly string[]): boolean {
  return pattern.length === key.length && pattern.every((part, index) => part === "*" || part === key[index]);
}

function toml(text: string, path: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new InvalidArgumentError(`${path}:${error.line}:${error.column}: ${error.message.split("\n")[0] ?? ""}`, {
      cause: error,
    });
  }
}

function table(value: unknown): Record<string, unknown> {
  return isTable(value) ? value : {};
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
