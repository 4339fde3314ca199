/** A tar file as an archive of images: its members are found once, and read where they lie. */
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError } from "../../sandbox/errors.js";
import type { Archive } from "./archive.js";
import { checkSize, type Location, pieces, readPiece } from "./file-pieces.js";

const blockBytes = 512;
const maxMembers = 100_000;
const maxNameBytes = 1024 ** 2;
/** of all extended headers together: what an archive may make us remember */
const maxNamesBytes = 64 * 1024 ** 2;

/** @param file stays open until the archive is closed; @throws InvalidArgumentError, and then the caller closes it */
export async function openTar(file: FileHandle, path: string): Promise<Archive> {
  const members = await listMembers(file, path);
  const find = (name: string): Location => {
    const member = members.get(cleanName(name));
    if (member === undefined) throw new InvalidArgumentError(`${path} has no member ${name}`);
    return member;
  };
  return {
    read: async (name, limitBytes) => readPiece(file, checkSize(find(name), name, limitBytes)),
    has: async (name) => members.has(cleanName(name)),
    stream: (name, signal) => pieces(file, find(name), signal),
    close: () => file.close(),
  };
}

/** Regular members by name, and links to them (older `docker save` links layers that are alike). */
async function listMembers(file: FileHandle, path: string): Promise<Map<string, Location>> {
  const members = new Map<string, Location>();
  const links: [name: string, target: string][] = [];
  const { size: total } = await file.stat();
  let longName: string | undefined;
  let longLink: string | undefined;
  let pax: Record<string, string> = {};
  let count = 0;
  let namesBytes = 0;
  for (let offset = 0; offset + blockBytes <= total; ) {
    const header = await readPiece(file, { offset, size: blockBytes });
    if (header.every((byte) => byte === 0)) break;
    checkSum(header, path);
    if (++count > maxMembers) throw new InvalidArgumentError(`${path} has more than ${maxMembers} members`);
    const type = String.fromCharCode(header[156] ?? 0);
    const declared = pax.size !== undefined && !"xgLK".includes(type) ? Number(pax.size) : readNumber(header, 124, 12);
    if (!Number.isSafeInteger(declared) || declared < 0 || offset + blockBytes + declared > total) {
      throw new InvalidArgumentError(`${path} ends too early, or is no tar archive`);
    }
    const data: Location = { offset: offset + blockBytes, size: declared };
    offset = data.offset + Math.ceil(declared / blockBytes) * blockBytes;
    if (type === "x" || type === "L" || type === "K") {
      namesBytes += declared;
      if (namesBytes > maxNamesBytes) throw new InvalidArgumentError(`${path} has more than 64 MiB of names`);
      const text = (await readPiece(file, checkSize(data, "an extended header", maxNameBytes))).toString("utf8");
      if (type === "x") pax = parsePax(text);
      else if (type === "L") longName = text.replace(/\0.*$/s, "");
      else longLink = text.replace(/\0.*$/s, "");
      continue;
    }
    const name = cleanName(pax.path ?? longName ?? ustarName(header));
    if (type === "0" || type === "\0") members.set(name, data);
    else if (type === "1") links.push([name, cleanName(pax.linkpath ?? longLink ?? readText(header, 157, 100))]);
    else if (type === "2") {
      const target = pax.linkpath ?? longLink ?? readText(header, 157, 100);
      links.push([name, cleanName(target.startsWith("/") ? target : join(name, "..", target))]);
    }
    longName = longLink = undefined;
    pax = {};
  }
  for (const [name, target] of links) {
    const member = members.get(target);
    if (member !== undefined && !members.has(name)) members.set(name, member);
  }
  return members;
}

function checkSum(header: Buffer, path: string): void {
  let sum = 0;
  for (let i = 0; i < blockBytes; i++) sum += i >= 148 && i < 156 ? 32 : (header[i] as number);
  if (sum === readNumber(header, 148, 8)) return;
  throw new InvalidArgumentError(`${path} is no tar archive, or it is damaged`);
}

function readText(header: Buffer, offset: number, size: number): string {
  return header.toString("utf8", offset, offset + size).replace(/\0.*$/s, "");
}

function ustarName(header: Buffer): string {
  const name = readText(header, 0, 100);
  const prefix = header.toString("latin1", 257, 263) === "ustar\0" ? readText(header, 345, 155) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

function readNumber(header: Buffer, offset: number, size: number): number {
  if (((header[offset] as number) & 0x80) !== 0) return Number(header.readBigUInt64BE(offset + size - 8));
  return Number.parseInt(readText(header, offset, size).trim() || "0", 8);
}

function cleanName(name: string): string {
  return join("/", name).slice(1).replace(/\/$/, "");
}

/** Records are "LENGTH KEY=VALUE\n", the length in bytes. */
function parsePax(text: string): Record<string, string> {
  const bytes = Buffer.from(text, "utf8");
  const records: Record<string, string> = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(bytes.toString("latin1", at, space));
    if (space < 0 || !(length > space - at)) break;
    const record = bytes.toString("utf8", space + 1, at + length - 1);
    const equals = record.indexOf("=");
    if (equals > 0) records[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  return records;
}
