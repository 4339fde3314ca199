import { randomBytes } from "node:crypto";

const loneSurrogate = /\p{Surrogate}/u;
const loneSurrogates = /\p{Surrogate}/gu;

/** RLIM_INFINITY, which is 2^64 in a spec. */
const largest = 2n ** 64n - 1n;

/**
 * A spec, or a part of it, as JSON for other runtimes. Numbers that JavaScript cannot hold become whole numbers: an
 * unlimited rlimit, and the arguments of seccomp rules that a spec carries as text. Bytes that are no UTF-8 cannot be
 * said in JSON, as with every runtime whose configuration it is: in their place stands U+FFFD.
 */
export function ociJson(value: unknown, indent?: number): string {
  // no text of a request can begin like this
  const mark = `number-${randomBytes(16).toString("hex")}:`;
  const text = JSON.stringify(
    value,
    function (this: unknown, key, inner: unknown) {
      if (typeof inner === "number" && inner >= 2 ** 64) return `${mark}${largest}`;
      if (typeof inner === "string" && loneSurrogate.test(inner)) return inner.replaceAll(loneSurrogates, "\ufffd");
      const isArgument = typeof inner === "string" && (key === "value" || key === "valueTwo") && isSeccompArg(this);
      return isArgument ? `${mark}${BigInt(inner)}` : inner;
    },
    indent,
  );
  return text.replaceAll(new RegExp(`"${mark}([0-9]+)"`, "g"), "$1");
}

function isSeccompArg(holder: unknown): boolean {
  return typeof holder === "object" && holder !== null && "op" in holder && "index" in holder;
}
