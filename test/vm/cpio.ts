/** The archive format that the kernel unpacks at boot: cpio "newc" (Documentation/driver-api/early-userspace). */

export interface CpioEntry {
  /** relative, without a leading slash; parents come before their children */
  path: string;
  /** file type and permissions, as in st_mode */
  mode: number;
  content?: Buffer;
}

/** One archive with all entries, owned by root, times zero. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const chunks = entries.map((entry, index) =>
    one(entry.path, entry.mode, index + 1, entry.content ?? Buffer.alloc(0)),
  );
  chunks.push(one("TRAILER!!!", 0, 0, Buffer.alloc(0)));
  return Buffer.concat(chunks);
}

function one(path: string, mode: number, inode: number, content: Buffer): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = (mode & 0o170000) === 0o040000 ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(content)]);
}

/** Header and name together, and the content, each end on a multiple of four bytes. */
function padded(part: Buffer): Buffer {
  return Buffer.concat([part, Buffer.alloc((4 - (part.length % 4)) % 4)]);
}
