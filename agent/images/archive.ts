/** Reading files of an image archive, which is a directory or a tar, without unpacking it. */
import { constants } from "node:fs";
import { type FileHandle, mkdtemp, open, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { InvalidArgumentError, messageOf, NotFoundError } from "../../sandbox/errors.js";
import { decompressFile } from "../../sandbox/rootfs/read-archive.js";
import { checkSize, pieces, readPiece } from "./file-pieces.js";
import { openTar } from "./tar-archive.js";

export interface Archive {
  /** @throws InvalidArgumentError when it is not there or longer than the limit */
  read(name: string, limitBytes: number): Promise<Buffer>;
  has(name: string): Promise<boolean>;
  stream(name: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export interface ArchiveOptions {
  /** a directory for what is needed for a while: a compressed archive lies uncompressed in there, without a name */
  scratch: string;
  signal: AbortSignal;
}

// whoever opens a fifo or a terminal must not wait for it
const readOnly = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** @throws NotFoundError, InvalidArgumentError; for a compressed one as decompressFile does */
export async function openArchive(path: string, options: ArchiveOptions): Promise<Archive> {
  const file = await openInput(path);
  try {
    if ((await file.stat()).isDirectory()) return openDirectory(path, file);
    if (!(await isCompressed(file, path))) return await openTar(file, path);
    const uncompressed = await decompress(file, options);
    await file.close();
    return await openTar(uncompressed, path).catch(async (error: unknown) => {
      await uncompressed.close();
      throw error;
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A file or a directory, open. @throws NotFoundError, InvalidArgumentError when it is neither */
export async function openInput(path: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await open(path, readOnly);
  } catch (error) {
    throw new NotFoundError(`${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  const status = await file.stat();
  if (status.isFile() || status.isDirectory()) return file;
  await file.close();
  throw new InvalidArgumentError(`${path} is neither a file nor a directory`);
}

/** By its first bytes. @throws InvalidArgumentError for a compression that nothing here can undo */
export async function isCompressed(file: FileHandle, path: string): Promise<boolean> {
  const { buffer } = await file.read(Buffer.alloc(6), 0, 6, 0);
  const magic = buffer.toString("hex");
  for (const [name, beginning] of [
    ["xz", "fd377a585a00"],
    ["bzip2", "425a68"],
  ] as const) {
    if (magic.startsWith(beginning)) {
      throw new InvalidArgumentError(`${path} is compressed with ${name}; gzip and zstd are read, and no compression`);
    }
  }
  return magic.startsWith("1f8b") || magic.startsWith("28b52ffd");
}

async function decompress(file: FileHandle, { scratch, signal }: ArchiveOptions): Promise<FileHandle> {
  const directory = await mkdtemp(join(scratch, ".import-"));
  try {
    const uncompressed = await open(join(directory, "archive"), "wx+", 0o600);
    try {
      await decompressFile({ fd: file.fd, scratch: directory, signal }, uncompressed.fd);
    } catch (error) {
      await uncompressed.close();
      throw error;
    }
    return uncompressed;
  } finally {
    // the open file stays until it is closed
    await rm(directory, { recursive: true });
  }
}

function openDirectory(path: string, directory: FileHandle): Archive {
  const openFile = async (name: string): Promise<FileHandle> => {
    let file: FileHandle;
    try {
      file = await open(join(path, cleanName(name)), readOnly);
    } catch (error) {
      throw new InvalidArgumentError(`${path} has no readable file ${name}: ${messageOf(error)}`, { cause: error });
    }
    try {
      if (!(await file.stat()).isFile()) throw new InvalidArgumentError(`${name} in ${path} is no regular file`);
      // what was opened is looked at, not what has the name now
      const [top, found] = [await placeOf(directory), await placeOf(file)];
      if (!found.startsWith(`${top}/`))
        throw new InvalidArgumentError(`${name} in ${path} is a link that leads out of it`);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  };
  const withFile = async <T>(name: string, use: (file: FileHandle, size: number) => Promise<T>): Promise<T> => {
    const file = await openFile(name);
    try {
      return await use(file, (await file.stat()).size);
    } finally {
      await file.close();
    }
  };
  return {
    read: (name, limitBytes) =>
      withFile(name, async (file, size) => readPiece(file, checkSize({ offset: 0, size }, name, limitBytes))),
    has: (name) =>
      withFile(name, async () => true).catch((error: unknown) => {
        if (error instanceof InvalidArgumentError) return false;
        throw error;
      }),
    async *stream(name, signal) {
      const file = await openFile(name);
      try {
        yield* pieces(file, { offset: 0, size: (await file.stat()).size }, signal);
      } finally {
        await file.close();
      }
    },
    close: () => directory.close(),
  };
}

function placeOf(file: FileHandle): Promise<string> {
  return readlink(`/proc/self/fd/${file.fd}`);
}

function cleanName(name: string): string {
  return join("/", name).slice(1).replace(/\/$/, "");
}
