/**
 * Labels and annotations come from people, and go out with every list, which is one message that clients take up to 16 MiB of:
 * those of a few pods must not keep the kubelet from seeing all the others.
 */
import { InvalidArgumentError } from "../sandbox/errors.js";
import type { Observer } from "../sandbox/observer.js";

type Texts = Record<string, string> | null | undefined;

/** The API server takes 256 KiB of annotations; the kubelet adds a container's hooks, which may be as large as an object. */
const mostBytes = 2 * 1024 * 1024;
/** of all annotations in a list; beside them there are ids, names and labels */
const mostInListBytes = 8 * 1024 * 1024;
/** of one thing, that are never left out */
const smallBytes = 8 * 1024;
/** of a value that stays where others are left out */
const smallValueBytes = 1024;

/** InvalidArgumentError names the field. */
export function checkTexts(config: { labels?: Texts; annotations?: Texts }): void {
  for (const name of ["labels", "annotations"] as const) {
    const bytes = textBytes(config[name]);
    if (bytes > mostBytes)
      throw new InvalidArgumentError(
        `config.${name}: ${bytes} bytes of keys and values; ${mostBytes} at most are taken`,
      );
  }
}

const known = new WeakMap<object, number>();

function textBytes(texts: Texts): number {
  if (!texts) return 0;
  let bytes = known.get(texts);
  if (bytes === undefined) {
    bytes = Object.entries(texts).reduce(
      (sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value),
      0,
    );
    known.set(texts, bytes);
  }
  return bytes;
}

/** Whether a list can have all annotations of these. */
export function fitIntoList(things: readonly { config: { annotations?: Texts } }[]): boolean {
  return textsFitIntoList(things.map(({ config }) => config));
}

export function textsFitIntoList(things: readonly { annotations?: Texts }[]): boolean {
  return things.reduce((sum, { annotations }) => sum + textBytes(annotations), 0) <= mostInListBytes;
}

/**
 * The items of a list whose annotations do not fit into it: long values are left out in those that have many bytes of them.
 * A thing's own status, and the streams, always have all.
 */
export function shortenedForList<T extends { annotations?: Texts }>(
  items: T[],
  observer: Pick<Observer, "limitation">,
): T[] {
  observer.limitation(
    "annotations",
    "annotations of all pods or containers together are too long for a list: values of more than 1 KiB are left out of it",
  );
  return items.map(withShortTexts);
}

export function withShortTexts<T extends { annotations?: Texts }>(item: T): T {
  if (textBytes(item.annotations) <= smallBytes) return item;
  const short = Object.entries(item.annotations ?? {}).filter(
    ([, value]) => Buffer.byteLength(value) <= smallValueBytes,
  );
  return { ...item, annotations: Object.fromEntries(short) };
}
