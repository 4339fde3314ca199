/** Names of images in settings: a reference in any familiar form, or the beginning of a complete one and a star. */
import { InvalidArgumentError } from "../../sandbox/errors.js";
import type { ImageRecord } from "./image-store.js";
import { formatReference, parseReference } from "./reference.js";

export type ImagePattern = { name: string } | { beginning: string };

/** @throws InvalidArgumentError that quotes what is no name */
export function parseImagePatterns(text: string): ImagePattern[] {
  const words = text.split(",").map((word) => word.trim());
  return words.filter((word) => word !== "").map(parsePattern);
}

function parsePattern(word: string): ImagePattern {
  const star = word.indexOf("*");
  if (star < 0) return { name: formatReference(parseReference(word)) };
  const beginning = word.slice(0, star);
  if (star !== word.length - 1 || beginning === "") {
    throw new InvalidArgumentError(`"${word}" is no image: a star stands at the end of a name only`);
  }
  return { beginning };
}

export function matchesImage(patterns: readonly ImagePattern[], image: ImageRecord): boolean {
  const names = [...image.repoTags, ...image.repoDigests];
  return patterns.some((pattern) =>
    "name" in pattern ? names.includes(pattern.name) : names.some((name) => name.startsWith(pattern.beginning)),
  );
}
