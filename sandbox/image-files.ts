/**
 * The passwd and group files of images, kept in memory: a container's root begins as its image, so that its user is known
 * while the root is still being mounted.
 */
import { native } from "../native/binding.js";
import type { ReadRootFile } from "./identity.js";

/** what the field's runtimes read of such a file, too */
const limitBytes = 1024 * 1024;
const maxKept = 64;
const maxKeptLength = 64 * 1024;
/** by the chain id of the topmost layer, which stands for all layers, and the path */
const kept = new Map<string, string>();

/** Reads from `root`, a detached mount of a new container's root, what was not read of these layers before. */
export function imageFileReader(layers: readonly string[], root: Promise<number>): ReadRootFile {
  return async (path) => {
    const key = `${layers.at(-1) ?? ""} ${path}`;
    const known = kept.get(key);
    if (known !== undefined) return known;
    const text = (await native.readFileInRoot({ rootFd: await root, path, limitBytes })).toString("utf8");
    const [oldest] = kept.keys();
    if (kept.size >= maxKept && oldest !== undefined) kept.delete(oldest);
    if (text.length <= maxKeptLength) kept.set(key, text);
    return text;
  };
}
