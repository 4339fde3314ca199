/** SPDY/3's header blocks: names and values, compressed. */
import { dictionaryId } from "./dictionary.js";
import { InflateError, Inflater } from "./inflate.js";

/** Of a block's content. Kubernetes' streams have three short ones. */
const longestHeaders = 16 * 1024;
const mostHeaders = 64;

export class HeaderReader {
  readonly #inflater = new Inflater();

  /** @throws InflateError */
  read(block: Buffer): Map<string, string> {
    const bytes = this.#inflater.inflate(block, longestHeaders);
    let at = 0;
    const number = (): number => {
      if (at + 4 > bytes.length) throw new InflateError("a header block is cut off");
      at += 4;
      return bytes.readUInt32BE(at - 4);
    };
    const text = (): string => {
      const length = number();
      if (length > bytes.length - at) throw new InflateError("a header is longer than its block");
      at += length;
      return bytes.toString("latin1", at - length, at);
    };
    const count = number();
    if (count > mostHeaders) throw new InflateError(`there are ${count} headers; ${mostHeaders} at most are read`);
    const headers = new Map<string, string>();
    for (let i = 0; i < count; i++) headers.set(text().toLowerCase(), text());
    return headers;
  }
}

/** The first block of a session begins zlib's stream; deflate's blocks that are stored need no compressor. */
export class HeaderWriter {
  #begun = false;

  write(headers: ReadonlyMap<string, string>): Buffer {
    const parts: Buffer[] = [uint32(headers.size)];
    for (const word of [...headers].flat()) parts.push(uint32(Buffer.byteLength(word)), Buffer.from(word));
    const content = Buffer.concat(parts);
    const sizes = Buffer.alloc(5);
    sizes.writeUInt16LE(content.length, 1);
    sizes.writeUInt16LE(content.length ^ 0xffff, 3);
    // an empty block behind it: readers give out what they have when they see one
    const block: Buffer[] = [sizes, content, Buffer.from([0, 0, 0, 0xff, 0xff])];
    if (!this.#begun) block.unshift(Buffer.from([0x78, 0x20]), uint32(dictionaryId));
    this.#begun = true;
    return Buffer.concat(block);
  }
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
