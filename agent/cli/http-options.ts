/** Options of the commands that send something to a server of HTTP. */
import { UsageError } from "./failure.js";

/** For an option that may be given again. */
export const collect = (value: string, before: string[]): string[] => [...before, value];

/** @throws a sentence that names the option */
export function parseHttpUrl(option: string, text = ""): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UsageError(`${option} ${text} is not http://HOST:PORT/PATH`);
  return url;
}

/** Of NAME=VALUE each; the names in small letters. */
export function parseHeaders(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [, name = "", value = ""] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(.*)$/s.exec(text) ?? [];
      if (name === "") throw new UsageError(`--header ${text} is not NAME=VALUE`);
      return [name.toLowerCase(), value];
    }),
  );
}
