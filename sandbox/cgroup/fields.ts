/** Numbers out of the files of a cgroup. */

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

/** The limits without the values that the kernel did not tell. */
export function known<T extends object>(values: { [K in keyof T]?: T[K] | undefined }): Partial<T> {
  const result: Partial<T> = {};
  for (const name of Object.keys(values) as (keyof T)[]) {
    const value = values[name];
    if (value !== undefined) result[name] = value;
  }
  return result;
}
