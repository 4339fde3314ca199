import { randomUUID } from "node:crypto";
import { readdir, rename, rm } from "node:fs/promises";

/** Well below PATH_MAX, with room for two further names. */
const longPathBytes = 2048;

/**
 * Removes a directory with all that is in it; already gone is success. A container can nest directories deeper than any
 * path reaches: those are moved up first.
 */
export async function removeTree(path: string): Promise<void> {
  const options = { recursive: true, force: true } as const;
  try {
    await rm(path, options);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENAMETOOLONG") throw error;
    await flatten(path);
    await rm(path, options);
  }
}

/** Names are bytes here: whoever made them need not have written text. */
async function flatten(top: string): Promise<void> {
  // a removal that was cut off has left directories of such names, too
  const place = `${top}/.moved-${randomUUID()}`;
  let moved = 0;
  const pending: Buffer[] = [Buffer.from(top)];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const entries = await readdir(directory, { withFileTypes: true, encoding: "buffer" });
    for (const entry of entries) {
      if (!entry.isDirectory()) continue;
      const path = Buffer.concat([directory, Buffer.from("/"), entry.name as unknown as Buffer]);
      if (path.length <= longPathBytes) {
        pending.push(path);
        continue;
      }
      const up = Buffer.from(`${place}-${++moved}`);
      await rename(path, up);
      pending.push(up);
    }
  }
}
