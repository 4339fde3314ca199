/**
 * Names of images, as the field writes and completes them: "busybox" is docker.io/library/busybox:latest, the first
 * component is a registry when it has a dot, a colon, a bracket or a capital letter, or is "localhost".
 */
import { isIPv6 } from "node:net";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import { digestPattern } from "./digest.js";

export interface Reference {
  /** "docker.io", "127.0.0.1:5000", "[::1]:5000" */
  registry: string;
  /** "library/busybox" */
  repository: string;
  /** absent when a digest was given */
  tag?: string;
  /** "sha256:<hex>" (or sha384, sha512) of the manifest or index */
  digest?: string;
}

const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const hostPattern = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$/;

/**
 * Reads a reference in any familiar form. With a tag and a digest, the digest decides and the tag is left out; with
 * neither, the tag is "latest".
 * @throws InvalidArgumentError that quotes the reference and says what is wrong with it
 */
export function parseReference(text: string): Reference {
  const refuse: Refuse = (why) => {
    throw new InvalidArgumentError(`"${text.slice(0, 300)}" is no image reference: ${why.slice(0, 300)}`);
  };
  if (text === "") refuse("it is empty");
  const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//.exec(text)?.[0];
  if (scheme !== undefined) refuse(`it begins with "${scheme}", and a reference has no scheme`);
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !digestPattern.test(digest)) refuse(`what follows @ ${whyNoDigest(digest)}`);
  const nameAndTag = at < 0 ? text : text.slice(0, at);

  // a colon after the last slash is the tag's; one before it is a port's
  const colon = nameAndTag.indexOf(":", nameAndTag.lastIndexOf("/") + 1);
  const tag = colon < 0 ? undefined : nameAndTag.slice(colon + 1);
  if (tag !== undefined && !tagPattern.test(tag)) refuse(`"${tag.slice(0, 140)}" is no tag`);
  const name = colon < 0 ? nameAndTag : nameAndTag.slice(0, colon);

  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const hasRegistry = first !== "" && (/[.:[]/.test(first) || first === "localhost" || first !== first.toLowerCase());
  let registry = hasRegistry ? first : "docker.io";
  if (registry === "index.docker.io") registry = "docker.io";
  checkRegistry(registry, refuse);
  let repository = hasRegistry ? name.slice(slash + 1) : name;
  // the field keeps such names for the ids of images
  if (!hasRegistry && /^[0-9a-f]{64}$/.test(repository)) refuse("64 hexadecimal digits are an id, and no name");
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  if (repository.length > 255) refuse("the repository's name is longer than 255 characters");
  for (const component of repository.split("/")) {
    if (componentPattern.test(component)) continue;
    if (component === "") refuse("a part of the repository's name is empty");
    refuse(/[A-Z]/.test(component) ? "the repository's name must be lowercase" : `"${component}" is no name`);
  }
  if (digest !== undefined) return { registry, repository, digest };
  return { registry, repository, tag: tag ?? "latest" };
}

type Refuse = (why: string) => never;

function whyNoDigest(text: string): string {
  const algorithm = /^([A-Za-z0-9+._-]+):/.exec(text)?.[1];
  if (algorithm === undefined) return "is no digest, as sha256:<64 hexadecimal digits> is one";
  if (!/^sha(?:256|384|512)$/.test(algorithm))
    return `is a digest by "${algorithm}", and only sha256, sha384 and sha512 are known`;
  return `is no ${algorithm} digest of ${Number(algorithm.slice(3)) / 4} lowercase hexadecimal digits`;
}

function checkRegistry(registry: string, refuse: Refuse): void {
  const [, host = "", port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(registry) ?? [];
  const isAddress = host.startsWith("[") && isIPv6(host.slice(1, -1)) && !host.includes("%");
  if (!isAddress && !hostPattern.test(host)) refuse(`"${registry}" is no registry host`);
  if (port !== undefined && !(/^[0-9]{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535)) {
    refuse(`"${port}" is no port`);
  }
}

/** "docker.io/library/busybox:latest", "docker.io/library/busybox@sha256:..." */
export function formatReference(reference: Reference): string {
  const suffix = reference.digest === undefined ? `:${reference.tag}` : `@${reference.digest}`;
  return `${formatName(reference)}${suffix}`;
}

/** Without tag and digest: "docker.io/library/busybox" */
export function formatName(reference: Reference): string {
  return `${reference.registry}/${reference.repository}`;
}
