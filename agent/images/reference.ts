/**
 * Names of images, as the field writes and completes them: "busybox" is docker.io/library/busybox:latest, the first
 * component is a registry when it has a dot, a colon, a bracket or is "localhost".
 */
import { InvalidArgumentError } from "../../sandbox/errors.js";

export interface Reference {
  /** "docker.io", "127.0.0.1:5000", "[::1]:5000" */
  registry: string;
  /** "library/busybox" */
  repository: string;
  /** absent when a digest was given */
  tag?: string;
  /** "sha256:<hex>" of the manifest or index */
  digest?: string;
}

const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const registryPattern =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;

/**
 * Reads a reference in any familiar form. With a tag and a digest, the digest decides and the tag is left out; with
 * neither, the tag is "latest".
 * @throws InvalidArgumentError that quotes the reference
 */
export function parseReference(text: string): Reference {
  const refuse = (why: string): never => {
    throw new InvalidArgumentError(`"${text.slice(0, 300)}" is no image reference: ${why}`);
  };
  if (text === "") refuse("it is empty");
  const at = text.indexOf("@");
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !digestPattern.test(digest)) refuse("what follows @ is no sha256 digest");
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
  if (!registryPattern.test(registry)) refuse(`"${registry}" is no registry host`);
  let repository = hasRegistry ? name.slice(slash + 1) : name;
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  if (`${registry}/${repository}`.length > 255) refuse("its name is longer than 255 characters");
  for (const component of repository.split("/")) {
    if (!componentPattern.test(component)) {
      refuse(/[A-Z]/.test(component) ? "the repository's name must be lowercase" : `"${component}" is no name`);
    }
  }
  if (digest !== undefined) return { registry, repository, digest };
  return { registry, repository, tag: tag ?? "latest" };
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
