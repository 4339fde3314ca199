import { InvalidArgumentError } from "./errors.js";

/**
 * The part of an image's configuration that says how its containers run: "config" of the OCI image specification, in
 * the field's own words. Everything is present: what the image leaves out is empty.
 */
export interface ImageDefaults {
  /** "", "name", "uid", "name:group", "uid:gid" */
  User: string;
  /** "NAME=value" */
  Env: string[];
  Entrypoint: string[];
  Cmd: string[];
  /** "" or a path; not yet checked to be absolute */
  WorkingDir: string;
  /** keys are paths inside the container */
  Volumes: Record<string, Record<string, never>>;
  Labels: Record<string, string>;
  /** "" or "SIGTERM", "15" */
  StopSignal: string;
  /** keys are "port", "port/tcp", "port/udp" */
  ExposedPorts: Record<string, Record<string, never>>;
}

/** An image's configuration (application/vnd.oci.image.config.v1+json), checked. Labels never steer the runtime. */
export interface OciImageConfig {
  architecture: string;
  os: string;
  variant?: string;
  /** RFC 3339 */
  created?: string;
  config: ImageDefaults;
  rootfs: {
    type: "layers";
    /** digests of the uncompressed layers, bottom first */
    diff_ids: string[];
  };
  history: ImageHistory[];
}

export interface ImageHistory {
  created?: string;
  created_by?: string;
  comment?: string;
  empty_layer?: boolean;
}

const maxListEntries = 10_000;
const maxLayers = 500;
const maxDefaultsLength = 512 * 1024;
const digestPattern = /^sha256:[0-9a-f]{64}$/;

/**
 * Checks an image configuration that came from outside.
 * @throws InvalidArgumentError that names the field
 */
export function parseImageConfig(json: unknown): OciImageConfig {
  const root = asObject(json, "the image configuration");
  const rootfs = asObject(root.rootfs, "rootfs");
  const type = asString(rootfs.type, "rootfs.type");
  if (type !== "layers")
    throw new InvalidArgumentError(`image configuration: rootfs.type is "${shortened(type)}", not "layers"`);
  const diffIds = asStrings(rootfs.diff_ids, "rootfs.diff_ids", maxLayers);
  for (const diffId of diffIds) {
    if (!digestPattern.test(diffId)) {
      throw new InvalidArgumentError(
        `image configuration: rootfs.diff_ids holds "${shortened(diffId)}", which is no sha256 digest`,
      );
    }
  }
  const variant = asString(root.variant, "variant");
  const created = asString(root.created, "created");
  return {
    architecture: asString(root.architecture, "architecture"),
    os: asString(root.os, "os"),
    ...(variant !== "" && { variant }),
    ...(created !== "" && { created }),
    config: parseDefaults(root.config),
    rootfs: { type: "layers", diff_ids: diffIds },
    history: parseHistory(root.history),
  };
}

function parseDefaults(json: unknown): ImageDefaults {
  const config = json === undefined || json === null ? {} : asObject(json, "config");
  const { Labels, ...rest } = config;
  // no program can be given so much; and it is kept in memory, for each image
  if (JSON.stringify(rest).length > maxDefaultsLength) {
    throw new InvalidArgumentError(
      `image configuration: config has more than ${maxDefaultsLength} bytes besides its labels`,
    );
  }
  return {
    User: asString(config.User, "config.User"),
    Env: asStrings(config.Env, "config.Env", maxListEntries),
    Entrypoint: asCommand(config.Entrypoint, "config.Entrypoint"),
    Cmd: asCommand(config.Cmd, "config.Cmd"),
    WorkingDir: asString(config.WorkingDir, "config.WorkingDir"),
    Volumes: asKeys(config.Volumes, "config.Volumes"),
    Labels: asStringMap(Labels, "config.Labels"),
    StopSignal: asString(config.StopSignal, "config.StopSignal"),
    ExposedPorts: asKeys(config.ExposedPorts, "config.ExposedPorts"),
  };
}

function parseHistory(json: unknown): ImageHistory[] {
  if (json === undefined || json === null) return [];
  if (!Array.isArray(json) || json.length > maxListEntries) throw wrong("history", "a list of a sane length");
  return json.map((entry: unknown) => {
    const item = asObject(entry, "history");
    const created = asString(item.created, "history.created");
    const createdBy = asString(item.created_by, "history.created_by");
    const comment = asString(item.comment, "history.comment");
    return {
      ...(created !== "" && { created }),
      ...(createdBy !== "" && { created_by: createdBy }),
      ...(comment !== "" && { comment }),
      ...(item.empty_layer === true && { empty_layer: true }),
    };
  });
}

/** What an image says goes into errors, but not all of it. */
function shortened(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}...`;
}

function wrong(field: string, expected: string): InvalidArgumentError {
  return new InvalidArgumentError(`image configuration: ${field} is not ${expected}`);
}

function asObject(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(field, "an object");
  return value as Record<string, unknown>;
}

/** Absent and null are empty. A NUL byte cannot be handed to the kernel. */
function asString(value: unknown, field: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string" || value.includes("\0")) throw wrong(field, "a string without NUL bytes");
  return value;
}

function asStrings(value: unknown, field: string, limit: number): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > limit) throw wrong(field, `a list of at most ${limit} strings`);
  return value.map((item: unknown) => {
    if (typeof item !== "string") throw wrong(field, "a list of strings");
    return asString(item, field);
  });
}

/** Docker's oldest images have a string where the list is: the program, with no arguments; it is not taken apart. */
function asCommand(value: unknown, field: string): string[] {
  if (typeof value !== "string") return asStrings(value, field, maxListEntries);
  return value === "" ? [] : [asString(value, field)];
}

function asStringMap(value: unknown, field: string): Record<string, string> {
  if (value === undefined || value === null) return {};
  const entries = Object.entries(asObject(value, field));
  if (entries.length > maxListEntries) throw wrong(field, `a map of at most ${maxListEntries} strings`);
  return Object.fromEntries(entries.map(([key, item]) => [key, asString(item, `${field}["${shortened(key)}"]`)]));
}

function asKeys(value: unknown, field: string): Record<string, Record<string, never>> {
  if (value === undefined || value === null) return {};
  const keys = Object.keys(asObject(value, field));
  if (keys.length > maxListEntries) throw wrong(field, `a set of at most ${maxListEntries} keys`);
  return Object.fromEntries(keys.map((key) => [asString(key, field), {}]));
}
