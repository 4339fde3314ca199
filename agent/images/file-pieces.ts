/** Parts of open files. */
import type { FileHandle } from "node:fs/promises";
import { InvalidArgumentError } from "../../sandbox/errors.js";

/** in bytes */
export interface Location {
  offset: number;
  size: number;
}

const chunkBytes = 256 * 1024;

/** @throws InvalidArgumentError that names what is longer than the limit */
export function checkSize(location: Location, name: string, limitBytes: number): Location {
  if (location.size > limitBytes) throw new InvalidArgumentError(`${name} is longer than ${limitBytes} bytes`);
  return location;
}

export async function readPiece(file: FileHandle, location: Location): Promise<Buffer> {
  const bytes = Buffer.alloc(location.size);
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, location.offset + done);
    if (bytesRead === 0) throw new InvalidArgumentError("the archive ends too early");
    done += bytesRead;
  }
  return bytes;
}

export async function* pieces(file: FileHandle, location: Location, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < location.size; ) {
    signal.throwIfAborted();
    const size = Math.min(chunkBytes, location.size - done);
    yield await readPiece(file, { offset: location.offset + done, size });
    done += size;
  }
}
