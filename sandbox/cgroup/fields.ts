/** Numbers out of the files of a cgroup. */

/** The value after `name ` at the beginning of a line of a flat keyed file (memory.stat, cpu.stat). */
export function keyed(content: string | undefined, name: string): number | undefined {
  const digits = keyedText(content, name);
  return digits === undefined ? undefined : Number(digits);
}

export function keyedBig(content: string | undefined, name: string): bigint | undefined {
  const digits = keyedText(content, name);
  return digits === undefined ? undefined : BigInt(digits);
}

export function keyedText(content: string | undefined, name: string): string | undefined {
  if (content === undefined) return undefined;
  const key = `${name} `;
  let at = content.startsWith(key) ? 0 : content.indexOf(`\n${key}`);
  if (at === -1) return undefined;
  at += at === 0 ? key.length : key.length + 1;
  const end = content.indexOf("\n", at);
  return content.slice(at, end === -1 ? undefined : end);
}

/** A file of a single number. "max" and v1's largest multiple of a page are no limit: undefined. */
export function single(content: string | undefined): number | undefined {
  if (content === undefined || content.startsWith("max")) return undefined;
  const value = Number(content);
  return content === "" || Number.isNaN(value) || value >= 2 ** 62 ? undefined : value;
}

/** The same, with -1 for no limit; undefined when the file could not be read. */
export function bytesOrUnlimited(content: string | undefined): number | undefined {
  return content === undefined ? undefined : (single(content) ?? -1);
}

export function singleBig(content: string | undefined): bigint | undefined {
  return content === undefined || content === "" ? undefined : BigInt(content.trim());
}

export function lines(content: string | undefined): number | undefined {
  if (content === undefined) return undefined;
  let count = 0;
  for (let at = content.indexOf("\n"); at !== -1; at = content.indexOf("\n", at + 1)) count++;
  return count;
}

/** The sample without the values that the kernel did not tell. */
export function known<T extends object>(values: { [K in keyof T]?: T[K] | undefined }): Partial<T> {
  const result: Partial<T> = {};
  for (const name of Object.keys(values) as (keyof T)[]) {
    const value = values[name];
    if (value !== undefined) result[name] = value;
  }
  return result;
}

/** Memory that cannot be taken back without harm: what is used less inactive file pages, as cAdvisor counts it. */
export function workingSet(usage: number | undefined, inactiveFile: number | undefined): number | undefined {
  return usage === undefined ? undefined : Math.max(0, usage - (inactiveFile ?? 0));
}
