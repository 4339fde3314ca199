/** The agent's configuration: defaults (settings.ts), then files (configuration/files.ts), then flags; checked, then frozen. */
import { isIP, isIPv4 } from "node:net";
import { isAbsolute, join, normalize } from "node:path";
import * as v from "valibot";
import { type PodLabel, parsePodLabels } from "../metrics/pod-labels.js";
import { pathOfParent } from "../sandbox/cgroup/parent.js";
import { sliceOfParent } from "../sandbox/cgroup/systemd/slices.js";
import type { BlockioRule } from "../sandbox/classes/blockio.js";
import type { RdtClass } from "../sandbox/classes/rdt.js";
import { InvalidArgumentError, messageOf } from "../sandbox/errors.js";
import type { NetworkChoice } from "../sandbox/network/chosen.js";
import { type StorageDriverName, storageDriverNames } from "../sandbox/rootfs/drivers/driver.js";
import type { ThinPoolOptions } from "../sandbox/rootfs/drivers/open.js";
import type { PosixRlimit } from "../sandbox/spec/oci.js";
import { parseByteQuantity } from "../sandbox/writable-limit.js";
import { closest } from "./configuration/closest.js";
import { mergeConfigTexts, readConfigTexts, type WrittenConfig } from "./configuration/files.js";
import { type ImagePattern, parseImagePatterns } from "./images/image-patterns.js";
import { type LogAreas, type LogLevel, logAreas, logLevels, parseLogAreas } from "./log-levels.js";
import { type OciRuntimeSettings, parseRuntimes } from "./oci-runtimes.js";
import { parseBlockio, parseRdt } from "./resource-classes.js";
import { parseRlimits } from "./rlimits.js";
import { defaultConfigFile, type SettingName, settings, settingTables } from "./settings.js";

export interface Config {
  /** absolute path of the CRI socket */
  readonly listen: string;
  /** null: there is none */
  readonly kubeSocket: { readonly path: string; readonly group: string } | null;
  readonly run: string;
  readonly root: string;
  /** null: /metrics is not served */
  readonly metrics: { readonly host: string; readonly port: number } | { readonly path: string } | null;
  /** of TLS and passwords for it; null: plain HTTP */
  readonly metricsWebConfig: string | null;
  /** labels of pods that their series have */
  readonly metricsPodLabels: readonly PodLabel[];
  /** null: there are no streams */
  readonly streams: { readonly host: string; readonly port: number } | null;
  /** files for TLS; null: streams are plain */
  readonly streamsTls: { readonly certificate: string; readonly key: string } | null;
  readonly registries: readonly string[];
  readonly cdiDirectories: readonly string[];
  /** null: there are no hooks */
  readonly hooksDirectory: string | null;
  /** modules that adjust specs, in order */
  readonly specHooks: readonly string[];
  readonly network: NetworkChoice;
  readonly cniConf: string;
  /** searched in order */
  readonly cniBin: readonly string[];
  readonly cniCache: string;
  readonly bridge: string;
  /** CIDRs, at most one of each family */
  readonly subnets: readonly string[];
  readonly cgroupDriver: "cgroupfs" | "systemd";
  readonly cgroupRoot: string;
  readonly netnsDir: string;
  readonly storageDriver: StorageDriverName;
  /** of the driver devmapper */
  readonly thinPool: ThinPoolOptions;
  /** undefined: none */
  readonly writableLimitBytes: number | undefined;
  readonly pinnedImages: readonly ImagePattern[];
  readonly logLineBytes: number;
  /** bytes a second of each container; 0: no limit */
  readonly logRate: number;
  readonly logLevel: LogLevel;
  /** of areas that have one of their own */
  readonly logAreas: LogAreas;
  /** of a receiver of OTLP/HTTP; null: no traces */
  readonly traces: string | null;
  /** what containers' programs begin with, as it is written */
  readonly rlimits: readonly PosixRlimit[];
  /** OCI runtimes behind a RuntimeClass */
  readonly runtimes: readonly OciRuntimeSettings[];
  /** classes that pods choose by annotation; null: there is no such table */
  readonly blockio: ReadonlyMap<string, readonly BlockioRule[]> | null;
  readonly rdt: ReadonlyMap<string, RdtClass> | null;
}

/** Settings as they were written; what is absent has its default. */
export type WrittenSettings = Partial<Record<SettingName, string>>;

// sun_path has 108 bytes and ends with a NUL
const longestSocketPath = 107;

/** What TOML has in quotes. */
const text = v.string("is not a text in quotes");

const absolutePath = v.pipe(
  text,
  v.check((path) => isAbsolute(path) && !path.includes("\0"), "is not an absolute path"),
  v.transform((path) => (path === "/" ? path : normalize(path).replace(/\/$/, ""))),
);

const pathList = v.pipe(
  text,
  v.transform((text) => text.split(",")),
  v.array(absolutePath),
);

const address = v.pipe(
  text,
  v.check((text) => text === "off" || parseAddress(text) !== null, 'is neither HOST:PORT nor "off"'),
  v.transform((text) => (text === "off" ? null : parseAddress(text))),
);

/** `word` stands for `value`; what is wrong with anything else, the schema says. */
function orWord<Value, Output>(word: string, value: Value, schema: v.GenericSchema<string, Output>) {
  return v.union(
    [
      v.pipe(
        v.literal(word),
        v.transform(() => value),
      ),
      schema,
    ],
    ({ issues }) => `${issues?.at(-1)?.message}${word === "" ? "" : `, and not "${word}"`}`,
  );
}

function wholeNumber(least: number, most: number) {
  return v.pipe(
    v.union([text, v.number()], `is not a number from ${least} to ${most}`),
    v.transform((written) => (written === "" ? Number.NaN : Number(written))),
    v.check(
      (number) => Number.isInteger(number) && number >= least && number <= most,
      `is not a number from ${least} to ${most}`,
    ),
  );
}

const socketPath = v.pipe(
  text,
  v.regex(/^unix:\/\/\/[^\0]+$/, "is not unix:///PATH"),
  v.transform((text) => normalize(text.slice("unix://".length))),
  v.check((path) => Buffer.byteLength(path) <= longestSocketPath, `is longer than ${longestSocketPath} bytes`),
);

const socketAddress = v.pipe(
  socketPath,
  v.transform((path) => ({ path })),
);

/** By a function of its own, whose error is the sentence. */
function parsed<T>(parse: (text: string) => T) {
  return v.pipe(
    text,
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        addIssue({ message: messageOf(error) });
        return NEVER;
      }
    }),
  );
}

function byteQuantity(least: number) {
  return v.pipe(
    text,
    v.transform((text) => parseByteQuantity(text) ?? 0),
    v.check((bytes) => bytes >= least, `is no size of at least ${least} bytes, as "10Gi"`),
  );
}

const subnets = v.pipe(
  text,
  v.transform((text) => text.split(",").map((part) => part.trim())),
  v.check((list) => list.every(isCidr), "is not a CIDR such as 10.88.0.0/16, or an IPv4 and an IPv6 one"),
  v.check((list) => new Set(list.map((cidr) => cidr.includes(":"))).size === list.length, "has two CIDRs of a family"),
);

const schema = v.strictObject({
  "kube-socket": orWord("off", null, socketPath),
  "kube-group": v.pipe(text, v.regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, "is not a group")),
  run: absolutePath,
  root: absolutePath,
  metrics: v.union([socketAddress, address], 'is neither HOST:PORT nor unix:///PATH nor "off"'),
  "metrics-web-config": orWord("off", null, absolutePath),
  "metrics-pod-labels": parsed(parsePodLabels),
  streams: address,
  "streams-cert": v.union([v.literal(""), absolutePath], "is not an absolute path"),
  "streams-key": v.union([v.literal(""), absolutePath], "is not an absolute path"),
  // as containerd's config_path
  registries: v.pipe(
    text,
    v.transform((text) => text.split(":")),
    v.array(absolutePath),
  ),
  "cni-conf": absolutePath,
  "cni-bin": pathList,
  "cni-cache": absolutePath,
  "hooks-dir": orWord("off", null, absolutePath),
  "cdi-dirs": pathList,
  "spec-hooks": orWord<string[], string[]>("", [], pathList),
  network: v.picklist(["auto", "builtin", "cni", "none"], "is not auto, builtin, cni or none"),
  bridge: v.pipe(text, v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/, "is no name for a network interface")),
  subnet: subnets,
  "cgroup-driver": v.picklist(["cgroupfs", "systemd"], "is not cgroupfs or systemd"),
  "cgroup-root": v.pipe(
    absolutePath,
    v.check((path) => path !== "/" && !path.split("/").includes(".."), "is not a path below the root cgroup"),
  ),
  "netns-dir": absolutePath,
  "storage-driver": v.picklist(storageDriverNames, `is not ${oneOf(storageDriverNames)}`),
  "devmapper-device": v.union([v.literal(""), absolutePath], "is not an absolute path"),
  "devmapper-size": byteQuantity(320 * 1024 ** 2),
  "devmapper-root-size": byteQuantity(32 * 1024 ** 2),
  "writable-layer-limit": v.pipe(
    text,
    v.check((text) => text === "" || parseByteQuantity(text) !== undefined, 'is no size, as 1000000 or "10Gi"'),
    v.transform(parseByteQuantity),
  ),
  "pinned-images": parsed(parseImagePatterns),
  "log-line-bytes": wholeNumber(256, 131_072),
  "log-rate": wholeNumber(0, Number.MAX_SAFE_INTEGER),
  "log-level": v.picklist(logLevels, `is not ${oneOf(logLevels)}`),
  "log-areas": v.pipe(
    text,
    v.check(
      (text) => parseLogAreas(text) !== null,
      `is not AREA=LEVEL[,AREA=LEVEL...]; the areas are ${logAreas.join(", ")}, the levels ${logLevels.join(", ")}`,
    ),
    v.transform((text) => parseLogAreas(text) ?? {}),
  ),
  traces: v.pipe(
    text,
    v.check(
      (text) => text === "off" || (/^https?:/.test(text) && URL.canParse(text)),
      'is neither http(s)://... nor "off"',
    ),
    v.transform((text) => (text === "off" ? null : text)),
  ),
  // after run, from which it may be made: the one that was written wrongly is the one to be named
  listen: socketPath,
});

/**
 * Puts flags, the configuration file and its drop-ins together. `file`: null is the default file, which may be missing.
 * @throws InvalidArgumentError that names every setting that is wrong, a line each, and where it stands
 */
export function loadConfig(flags: WrittenSettings, file: string | null): Config {
  return checkConfig(flags, mergeConfigTexts(readConfigTexts(file ?? defaultConfigFile, file === null)));
}

/** As loadConfig, of files that have been read. */
export function checkConfig(flags: WrittenSettings, files: WrittenConfig): Config {
  const { placeOf } = files;
  const { rlimits, runtimes, blockio, rdt, ...values } = settingValues(flags, files);
  const problems = new Map<string, string>();
  const sourceOf = (name: string) => {
    const place = placeOf([name]);
    return name in flags ? `--${name}` : place === undefined ? name : `${place}: ${name}`;
  };
  const result = v.safeParse(schema, values);
  for (const { path, message } of result.issues ?? []) {
    const name = String(path?.[0]?.key ?? "");
    const isMadeFromRun = name === "listen" && sourceOf(name) === name;
    if (problems.has(name) || (isMadeFromRun && problems.has("run"))) continue;
    if (name in settings) {
      problems.set(name, `${sourceOf(name)} ${JSON.stringify(values[name])} ${message}`);
    } else {
      problems.set(name, `${placeOf([name])}: there is no setting "${name}"${suggestion(name)}`);
    }
  }
  if (result.success) {
    const problem = cgroupRootProblem(result.output);
    if (problem !== undefined) problems.set("cgroup-root", `${sourceOf("cgroup-root")}${problem}`);
  }
  const table = <Parsed>(
    name: string,
    value: unknown,
    parse: (value: unknown, place: string) => Parsed,
  ): Parsed | null => {
    try {
      return parse(value, name);
    } catch (error) {
      problems.set(name, `${placeOf(keyNamedBy(messageOf(error), name, value))}: ${messageOf(error)}`);
      return null;
    }
  };
  const tables = {
    rlimits: table("rlimits", rlimits, parseRlimits) ?? [],
    runtimes: table("runtimes", runtimes, parseRuntimes) ?? [],
    blockio: table("blockio", blockio, parseBlockio),
    rdt: table("rdt", rdt, parseRdt),
  };
  if (!result.success || problems.size > 0) throw new InvalidArgumentError([...problems.values()].join("\n"));
  return freeze(result.output, tables);
}

/** What counts of each setting and table, as it is written, and of those that nobody has written, the default. */
export function settingValues(flags: WrittenSettings, { values: written }: WrittenConfig): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(settings)) values[name] = setting.default;
  Object.assign(values, written, flags);
  values["cgroup-root"] ??= values["cgroup-driver"] === "systemd" ? "/berth.slice" : "/berth";
  values["listen"] ??= `unix://${join(String(values["run"]), "berth.sock")}`;
  return values;
}

/** What speaks against the cgroup in which pods without a parent would lie, for the driver's rules differ. */
function cgroupRootProblem(checked: v.InferOutput<typeof schema>): string | undefined {
  const root = checked["cgroup-root"];
  try {
    if (checked["cgroup-driver"] === "systemd") sliceOfParent(root, "");
    else pathOfParent(root, "", []);
  } catch (error) {
    return messageOf(error);
  }
}

function suggestion(name: string): string {
  const near = closest(name, [...Object.keys(settings), ...settingTables.map((table) => table.name)]);
  return near === undefined ? "" : `; "${near}" may be meant`;
}

/** The key that a sentence of a table's parser begins with: "runtimes.runc.path is missing" is about runtimes, runc, path. */
function keyNamedBy(sentence: string, name: string, table: unknown): string[] {
  const entries = typeof table === "object" && table !== null ? Object.keys(table) : [];
  const entry = entries.find((candidate) => sentence.startsWith(`${name}.${candidate}`));
  if (entry === undefined) return [name];
  const deeper = /^(?:\[[0-9]+\])?\.([a-z-]+)/.exec(sentence.slice(`${name}.${entry}`.length))?.[1];
  return [name, entry, ...(deeper === undefined ? [] : [deeper])];
}

function freeze(
  checked: v.InferOutput<typeof schema>,
  tables: Pick<Config, "rlimits" | "runtimes" | "blockio" | "rdt">,
): Config {
  return Object.freeze({
    listen: checked.listen,
    kubeSocket:
      checked["kube-socket"] === null
        ? null
        : Object.freeze({ path: checked["kube-socket"], group: checked["kube-group"] }),
    run: checked.run,
    root: checked.root,
    metrics: checked.metrics === null ? null : Object.freeze(checked.metrics),
    metricsWebConfig: checked["metrics-web-config"],
    metricsPodLabels: Object.freeze(checked["metrics-pod-labels"]),
    streams: checked.streams === null ? null : Object.freeze(checked.streams),
    streamsTls: tlsFiles(checked["streams-cert"], checked["streams-key"]),
    registries: checked.registries,
    hooksDirectory: checked["hooks-dir"],
    cdiDirectories: Object.freeze(checked["cdi-dirs"]),
    specHooks: Object.freeze(checked["spec-hooks"]),
    network: checked.network,
    cniConf: checked["cni-conf"],
    cniBin: Object.freeze(checked["cni-bin"]),
    cniCache: checked["cni-cache"],
    bridge: checked.bridge,
    subnets: Object.freeze(checked.subnet),
    cgroupDriver: checked["cgroup-driver"],
    cgroupRoot: checked["cgroup-root"],
    netnsDir: checked["netns-dir"],
    storageDriver: checked["storage-driver"],
    thinPool: Object.freeze({
      device: checked["devmapper-device"] || undefined,
      sizeBytes: checked["devmapper-size"],
      deviceBytes: checked["devmapper-root-size"],
    }),
    writableLimitBytes: checked["writable-layer-limit"],
    pinnedImages: Object.freeze(checked["pinned-images"]),
    logLineBytes: checked["log-line-bytes"],
    logRate: checked["log-rate"],
    logLevel: checked["log-level"],
    logAreas: Object.freeze(checked["log-areas"]),
    traces: checked.traces,
    rlimits: Object.freeze(tables.rlimits),
    runtimes: Object.freeze(tables.runtimes),
    blockio: tables.blockio,
    rdt: tables.rdt,
  });
}

function tlsFiles(certificate: string, key: string): Config["streamsTls"] {
  if (certificate === "" && key === "") return null;
  if (certificate !== "" && key !== "") return Object.freeze({ certificate, key });
  const [given, missing] = key === "" ? ["cert", "key"] : ["key", "cert"];
  throw new InvalidArgumentError(`--streams-${given} needs --streams-${missing}, too`);
}

/** "127.0.0.1:80", "localhost:80", "[::1]:80"; null when it is none of these. Port 0 is one that the kernel picks. */
export function parseAddress(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535) return null;
  if (match?.[1] !== undefined && isIP(host) !== 6) return null;
  return { host, port };
}

/** "a, b or c" */
function oneOf(names: readonly string[]): string {
  return names.join(", ").replace(/, ([^,]*)$/, " or $1");
}

function isCidr(text: string): boolean {
  const [ip, prefix, ...rest] = text.split("/");
  if (ip === undefined || prefix === undefined || rest.length > 0 || !/^[0-9]{1,3}$/.test(prefix)) return false;
  return isIP(ip) !== 0 && Number(prefix) > 0 && Number(prefix) < (isIPv4(ip) ? 31 : 127);
}
