import type { ContainerConfig } from "../container.js";
import { InvalidArgumentError } from "../errors.js";
import type { ImageDefaults } from "../image-config.js";
import { bytesToText } from "./byte-text.js";

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * The environment, NAME=value: what every container has, the image's, the request's; of two with one name the later wins.
 * Values of the request are bytes (a Secret may hold any): byte-text.ts says how they are text here.
 * `home` counts when neither image nor request sets HOME.
 */
export function environment(
  config: ContainerConfig,
  image: ImageDefaults,
  { hostname, home }: { hostname: string; home: string },
): string[] {
  const variables = new Map<string, string>([["PATH", defaultPath]]);
  if (hostname !== "") variables.set("HOSTNAME", hostname);
  if (config.tty) variables.set("TERM", "xterm");
  for (const entry of image.Env) {
    const equals = entry.indexOf("=");
    // a name without a value says nothing: there is no environment of a client to take it from
    if (equals > 0) variables.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  for (const [index, { key, value }] of (config.envs ?? []).entries()) {
    const name = key ?? "";
    if (name === "" || name.includes("=") || name.includes("\0")) {
      throw new InvalidArgumentError(`config.envs[${index}].key: ${JSON.stringify(name)} is no name of a variable`);
    }
    variables.set(name, toText(value ?? new Uint8Array(), `config.envs[${index}].value (of ${name})`));
  }
  if (!variables.has("HOME")) variables.set("HOME", home);
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

function toText(value: Uint8Array, field: string): string {
  if (value.includes(0)) throw new InvalidArgumentError(`${field}: it holds a NUL byte`);
  return bytesToText(value);
}
