/** Which format and encoding a client of /metrics gets, by its headers. */
import type { TextFormat } from "./text.js";

export function negotiate(accept: string | undefined, acceptEncoding: string | undefined): TextFormat {
  const wanted = qualities(accept ?? "*/*");
  const quality = (type: string) => wanted.get(type) ?? wanted.get(`${type.split("/")[0]}/*`) ?? wanted.get("*/*") ?? 0;
  const open = wanted.get("application/openmetrics-text") ?? 0;
  const encodings = qualities(acceptEncoding ?? "");
  return {
    openMetrics: open > 0 && open >= quality("text/plain"),
    gzip: (encodings.get("gzip") ?? encodings.get("*") ?? 0) > 0,
  };
}

/** The highest quality of each name in a list such as "a;version=1;q=0.5, b". */
function qualities(header: string): Map<string, number> {
  const result = new Map<string, number>();
  for (const item of header.split(",")) {
    const [name = "", ...parameters] = item.split(";").map((part) => part.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    const quality = q === undefined ? 1 : Number(q.slice(2));
    if (name !== "" && quality >= 0) result.set(name, Math.max(quality, result.get(name) ?? 0));
  }
  return result;
}
