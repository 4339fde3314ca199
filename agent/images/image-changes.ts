/** Changes of an image's configuration, as `docker import --change` and Dockerfiles have them. */
import { InvalidArgumentError } from "../../sandbox/errors.js";

/** "config" of the OCI image specification, as far as changes make it. */
export interface ChangedConfig {
  User?: string;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  Volumes?: Record<string, object>;
  Labels?: Record<string, string>;
  StopSignal?: string;
  ExposedPorts?: Record<string, object>;
}

/** @throws InvalidArgumentError that quotes the change */
export function applyChanges(changes: readonly string[]): ChangedConfig {
  const config: ChangedConfig = {};
  for (const change of changes) applyChange(config, change);
  return config;
}

function applyChange(config: ChangedConfig, change: string): void {
  const [, word = "", value = ""] = /^\s*([A-Za-z]+)\s+(.*\S)\s*$/s.exec(change) ?? [];
  switch (word.toUpperCase()) {
    case "CMD":
      config.Cmd = command(value, change);
      return;
    case "ENTRYPOINT":
      config.Entrypoint = command(value, change);
      return;
    case "ENV":
      config.Env = [...(config.Env ?? []), pair(value, change).join("=")];
      return;
    case "LABEL": {
      const [name, text] = pair(value, change);
      config.Labels = { ...config.Labels, [name]: text };
      return;
    }
    case "EXPOSE":
      if (!/^[0-9]{1,5}(?:\/(?:tcp|udp|sctp))?$/.test(value)) throw refused(change, "EXPOSE 80, EXPOSE 53/udp");
      config.ExposedPorts = { ...config.ExposedPorts, [value.includes("/") ? value : `${value}/tcp`]: {} };
      return;
    case "USER":
      config.User = value;
      return;
    case "VOLUME":
      config.Volumes = { ...config.Volumes, [value]: {} };
      return;
    case "WORKDIR":
      config.WorkingDir = value;
      return;
    case "STOPSIGNAL":
      config.StopSignal = value;
      return;
    default:
      throw refused(change, "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR, and its value");
  }
}

/** A JSON list of words, or a line for the shell. */
function command(value: string, change: string): string[] {
  if (!value.startsWith("[")) return ["/bin/sh", "-c", value];
  try {
    const words: unknown = JSON.parse(value);
    if (Array.isArray(words) && words.every((word) => typeof word === "string")) return words;
  } catch {
    // told below
  }
  throw refused(change, '["program", "argument"] in JSON, or a line for the shell');
}

function pair(value: string, change: string): [string, string] {
  const equals = value.indexOf("=");
  if (equals < 1) throw refused(change, "NAME=value");
  return [value.slice(0, equals), value.slice(equals + 1)];
}

function refused(change: string, expected: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `${JSON.stringify(change.slice(0, 200))} is no change of an image: expected ${expected}`,
  );
}
