/** Writes tar archives, correct ones and, where an entry asks for it, hostile ones. */

export interface TarEntry {
  path: string;
  /** default "file" */
  type?: "file" | "directory" | "symlink" | "hardlink" | "char" | "block" | "fifo";
  /** default 0755 for directories, else 0644 */
  mode?: number;
  uid?: number;
  gid?: number;
  /** seconds since the epoch */
  mtime?: number;
  content?: string | Uint8Array;
  link?: string;
  device?: [major: number, minor: number];
  /** records of a pax header before the entry: "SCHILY.xattr.user.x", "mtime", "path" */
  pax?: Record<string, string>;
}

const typeFlags = { file: "0", hardlink: "1", symlink: "2", char: "3", block: "4", directory: "5", fifo: "6" } as const;
const blockBytes = 512;

export function writeTar(entries: readonly TarEntry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const entry of entries) {
    const pax = { ...entry.pax };
    if (Buffer.byteLength(entry.path) > 100) pax.path ??= entry.path;
    if (Buffer.byteLength(entry.link ?? "") > 100) pax.linkpath ??= entry.link ?? "";
    if (Object.keys(pax).length > 0) blocks.push(...paxEntry(pax));
    const content = Buffer.from(entry.content ?? "");
    const type = entry.type ?? "file";
    blocks.push(header(entry, typeFlags[type], type === "file" ? content.length : 0));
    if (type === "file") blocks.push(padded(content));
  }
  blocks.push(Buffer.alloc(2 * blockBytes));
  return Buffer.concat(blocks);
}

function paxEntry(records: Record<string, string>): Buffer[] {
  const content = Buffer.concat(Object.entries(records).map(([key, value]) => paxRecord(key, value)));
  return [header({ path: "pax" }, "x", content.length), padded(content)];
}

function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`, "latin1");
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function header(entry: TarEntry, type: string, size: number): Buffer {
  const block = Buffer.alloc(blockBytes);
  const octal = (value: number, offset: number, width: number): void => {
    block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, offset, "latin1");
  };
  block.write(Buffer.from(entry.path).subarray(0, 100).toString("latin1"), 0, "latin1");
  octal(entry.mode ?? (type === "5" ? 0o755 : 0o644), 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(entry.mtime ?? 1_700_000_000, 136, 12);
  block.write("        ", 148, "latin1");
  block.write(type, 156, "latin1");
  block.write(
    Buffer.from(entry.link ?? "")
      .subarray(0, 100)
      .toString("latin1"),
    157,
    "latin1",
  );
  block.write("ustar\x0000", 257, "latin1");
  octal(entry.device?.[0] ?? 0, 329, 8);
  octal(entry.device?.[1] ?? 0, 337, 8);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    8,
  );
  return block;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes)]);
}
