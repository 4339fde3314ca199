/** An OCI image layout in the making: a directory, or a tar of one. */
import { type FileHandle, mkdir, open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AlreadyExistsError, InvalidArgumentError, messageOf } from "../../sandbox/errors.js";
import { blockBytes, padding, tarHeader } from "./tar-header.js";

export interface BlobEnd {
  digest: string;
  bytes: number;
}

export interface LayoutWriter {
  /** `write` writes the blob to the open file, where it stands, and tells what it was. One at a time. */
  addBlob<T extends BlobEnd>(write: (fd: number) => Promise<T>): Promise<T>;
  addBytes(digest: string, bytes: Buffer): Promise<void>;
  /** The last step. @param dockerList what "docker load" reads of a tar; a directory is for others */
  finish(index: Buffer, dockerList: Buffer): Promise<void>;
  /** Removes all that was written; after finish(), too. */
  abandon(): Promise<void>;
}

const layoutFile = Buffer.from(JSON.stringify({ imageLayoutVersion: "1.0.0" }));

/**
 * @param path of a tar when it ends with ".tar", else of a directory; nothing is there yet, or an empty directory
 * @throws AlreadyExistsError, InvalidArgumentError when it cannot be made
 */
export function openLayoutWriter(path: string): Promise<LayoutWriter> {
  return path.endsWith(".tar") ? openTarWriter(path) : openDirectoryWriter(path);
}

async function openDirectoryWriter(path: string): Promise<LayoutWriter> {
  const made = await mkdir(path, { mode: 0o700 }).then(
    () => true,
    async (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw cannotBeMade(path, error);
      const names = await readdir(path).catch(() => ["something else"]);
      if (names.length > 0) throw new AlreadyExistsError(`${path} is there already, and is no empty directory`);
      return false;
    },
  );
  const blobs = join(path, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  const blobPath = (digest: string): string => join(blobs, digest.slice("sha256:".length));
  return {
    async addBlob(write) {
      const part = join(blobs, ".part");
      const file = await open(part, "w", 0o600);
      try {
        const end = await write(file.fd);
        await rename(part, blobPath(end.digest));
        return end;
      } finally {
        await file.close();
      }
    },
    addBytes: (digest, bytes) => writeFile(blobPath(digest), bytes, { mode: 0o600 }),
    async finish(index) {
      await writeFile(join(path, "oci-layout"), layoutFile, { mode: 0o600 });
      await writeFile(join(path, "index.json"), index, { mode: 0o600 });
    },
    async abandon() {
      const names = made ? [""] : ["blobs", "oci-layout", "index.json"];
      for (const name of names) await rm(join(path, name), { recursive: true, force: true });
    },
  };
}

async function openTarWriter(path: string): Promise<LayoutWriter> {
  let file: FileHandle;
  try {
    // appends, because a blob's length is known only when it stands there
    file = await open(path, "ax", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") throw new AlreadyExistsError(`${path} is there already`);
    throw cannotBeMade(path, error);
  }
  // the same file: in one that appends nothing can be written elsewhere
  const anywhere = await open(`/proc/self/fd/${file.fd}`, "r+");
  const members = new Set<string>();
  const addMember = async (name: string, bytes: Buffer): Promise<void> => {
    if (members.has(name)) return;
    members.add(name);
    await file.appendFile(Buffer.concat([tarHeader(name, bytes.length), bytes, padding(bytes.length)]));
  };
  return {
    async addBlob(write) {
      const { size: begin } = await file.stat();
      await file.appendFile(Buffer.alloc(blockBytes));
      const end = await write(file.fd);
      const name = blobName(end.digest);
      if (members.has(name)) {
        await anywhere.truncate(begin);
        return end;
      }
      members.add(name);
      await file.appendFile(padding(end.bytes));
      await anywhere.write(tarHeader(name, end.bytes), 0, blockBytes, begin);
      return end;
    },
    addBytes: (digest, bytes) => addMember(blobName(digest), bytes),
    async finish(index, dockerList) {
      await addMember("oci-layout", layoutFile);
      await addMember("index.json", index);
      await addMember("manifest.json", dockerList);
      await file.appendFile(Buffer.alloc(2 * blockBytes));
      await Promise.all([file.close(), anywhere.close()]);
    },
    async abandon() {
      await Promise.all([file.close(), anywhere.close()]);
      await rm(path, { force: true });
    },
  };
}

function cannotBeMade(path: string, error: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`path: ${path} cannot be made: ${messageOf(error)}`, { cause: error });
}

/** In a layout, and in Docker's list of a tar. */
export function blobName(digest: string): string {
  return `blobs/sha256/${digest.slice("sha256:".length)}`;
}
