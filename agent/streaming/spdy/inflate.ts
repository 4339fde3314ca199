/**
 * Zlib's decompression of SPDY's header blocks (RFC 1950, RFC 1951): one stream for a whole session, a piece of it with each
 * block. Node's own inflates a stream only asynchronously, and tells how much came out when it is in memory; here a block
 * that would become too long is refused before.
 */
import { dictionary, dictionaryId } from "./dictionary.js";

const windowBytes = 32 * 1024;
const longestCode = 15;
const endOfBlock = 256;
/** Lengths of the codes that describe codes, in the order in which they are sent. */
const codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** What a code's symbols 0... stand for: each begins where the one before, with its extra bits, ends. */
function ranges(first: number, extraBits: readonly number[]): { base: number; extra: number }[] {
  let base = first;
  return extraBits.map((extra) => {
    const range = { base, extra };
    base += 1 << extra;
    return range;
  });
}

const lengths = ranges(3, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5]);
// the longest match has a symbol of its own
lengths.push({ base: 258, extra: 0 });
const distances = ranges(
  1,
  Array.from({ length: 30 }, (_, symbol) => Math.max(0, (symbol >> 1) - 1)),
);

interface Code {
  /** codes of each length */
  counts: Uint16Array;
  /** symbols in the order of their codes */
  symbols: Uint16Array;
}

const fixedLiterals = toCode(
  Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
);
const fixedDistances = toCode(new Array<number>(30).fill(5), true);

export class InflateError extends Error {}

export class Inflater {
  readonly #output = new Output();
  #begun = false;

  /**
   * The content of the stream's next piece, which ends with a whole block of deflate's, on a whole byte. It is there until
   * the next call.
   * @throws InflateError: it is malformed, or longer than the limit; the stream is of no use then
   */
  inflate(piece: Buffer, limitBytes: number): Buffer {
    const bits = new BitReader(piece);
    const output = this.#output;
    output.begin(limitBytes);
    if (!this.#begun) checkHeader(bits);
    this.#begun = true;
    while (bits.left > 0) {
      if (bits.take(1) === 1) throw new InflateError("the compressed stream ends");
      inflateBlock(bits, output);
      // bits that fill up the last byte belong to no block
      if (bits.left < 8) break;
    }
    return output.content();
  }
}

class BitReader {
  #at = 0;
  #bit = 0;

  constructor(private readonly bytes: Buffer) {}

  get left(): number {
    return (this.bytes.length - this.#at) * 8 - this.#bit;
  }

  take(count: number): number {
    if (count > this.left) throw new InflateError("the compressed block is cut off");
    let value = 0;
    for (let i = 0; i < count; i++) {
      value |= (((this.bytes[this.#at] ?? 0) >> this.#bit) & 1) << i;
      this.#bit++;
      if (this.#bit === 8) {
        this.#bit = 0;
        this.#at++;
      }
    }
    return value;
  }

  /** from the next whole byte on */
  bytesOf(count: number): Buffer {
    this.toByte();
    if (count * 8 > this.left) throw new InflateError("the compressed block is cut off");
    this.#at += count;
    return this.bytes.subarray(this.#at - count, this.#at);
  }

  toByte(): void {
    if (this.#bit > 0) this.#at++;
    this.#bit = 0;
  }
}

/** What was decompressed, behind what came before it: matches reach back into both. One buffer for the whole stream. */
class Output {
  #bytes = Buffer.allocUnsafe(2 * dictionary.length);
  #length = dictionary.copy(this.#bytes);
  /** where this piece's content begins */
  #start = 0;
  #limitBytes = 0;

  begin(limitBytes: number): void {
    if (this.#length > 2 * windowBytes) {
      this.#bytes.copyWithin(0, this.#length - windowBytes, this.#length);
      this.#length = windowBytes;
    }
    this.#start = this.#length;
    this.#limitBytes = limitBytes;
  }

  #grow(count: number): void {
    const wanted = this.#length + count;
    if (wanted - this.#start > this.#limitBytes) {
      throw new InflateError(`headers are longer than ${this.#limitBytes} bytes`);
    }
    if (wanted <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(wanted, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }

  append(bytes: Buffer): void {
    this.#grow(bytes.length);
    bytes.copy(this.#bytes, this.#length);
    this.#length += bytes.length;
  }

  push(byte: number): void {
    this.#grow(1);
    this.#bytes[this.#length++] = byte;
  }

  repeat(distance: number, length: number): void {
    if (distance > this.#length) throw new InflateError("a match reaches back before the beginning");
    this.#grow(length);
    for (let i = 0; i < length; i++) {
      this.#bytes[this.#length] = this.#bytes[this.#length - distance] ?? 0;
      this.#length++;
    }
  }

  content(): Buffer {
    return this.#bytes.subarray(this.#start, this.#length);
  }
}

function checkHeader(bits: BitReader): void {
  const [method = 0, flags = 0] = bits.bytesOf(2);
  if ((method & 0x0f) !== 8 || ((method << 8) | flags) % 31 !== 0) throw new InflateError("this is not zlib's format");
  if ((flags & 0x20) === 0 || bits.bytesOf(4).readUInt32BE(0) !== dictionaryId) {
    throw new InflateError("the compression does not begin with SPDY/3's dictionary");
  }
}

function inflateBlock(bits: BitReader, output: Output): void {
  switch (bits.take(2)) {
    case 0: {
      const sizes = bits.bytesOf(4);
      const length = sizes.readUInt16LE(0);
      if ((length ^ 0xffff) !== sizes.readUInt16LE(2)) throw new InflateError("a stored block's length is wrong");
      output.append(bits.bytesOf(length));
      return;
    }
    case 1:
      inflateCodes(bits, output, fixedLiterals, fixedDistances);
      return;
    case 2: {
      const { literals, distances: codes } = readCodes(bits);
      inflateCodes(bits, output, literals, codes);
      return;
    }
    default:
      throw new InflateError("a block is of no known type");
  }
}

function inflateCodes(bits: BitReader, output: Output, literals: Code, distanceCode: Code): void {
  for (;;) {
    const symbol = decode(bits, literals);
    if (symbol === endOfBlock) return;
    if (symbol < endOfBlock) {
      output.push(symbol);
      continue;
    }
    const length = takeIn(bits, lengths[symbol - endOfBlock - 1]);
    output.repeat(takeIn(bits, distances[decode(bits, distanceCode)]), length);
  }
}

function takeIn(bits: BitReader, range: { base: number; extra: number } | undefined): number {
  if (range === undefined) throw new InflateError("a code means nothing");
  return range.base + bits.take(range.extra);
}

function readCodes(bits: BitReader): { literals: Code; distances: Code } {
  const literalCount = bits.take(5) + 257;
  const distanceCount = bits.take(5) + 1;
  const orderCount = bits.take(4) + 4;
  const codeLengths = new Array<number>(codeOrder.length).fill(0);
  for (const symbol of codeOrder.slice(0, orderCount)) codeLengths[symbol] = bits.take(3);
  const code = toCode(codeLengths);
  const all: number[] = [];
  while (all.length < literalCount + distanceCount) {
    const symbol = decode(bits, code);
    if (symbol < 16) {
      all.push(symbol);
      continue;
    }
    const previous = all.at(-1);
    if (symbol === 16 && previous === undefined) throw new InflateError("there is no code length to repeat");
    const count = symbol === 16 ? 3 + bits.take(2) : symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7);
    for (let i = 0; i < count; i++) all.push(symbol === 16 ? (previous ?? 0) : 0);
  }
  if (all.length > literalCount + distanceCount) throw new InflateError("there are too many code lengths");
  return { literals: toCode(all.slice(0, literalCount)), distances: toCode(all.slice(literalCount), true) };
}

/** @param incomplete codes that stand for nothing may be left over */
function toCode(lengthsOfSymbols: readonly number[], incomplete = false): Code {
  const counts = new Uint16Array(longestCode + 1);
  for (const length of lengthsOfSymbols) counts[length] = (counts[length] ?? 0) + 1;
  counts[0] = 0;
  let free = 1;
  for (let length = 1; length <= longestCode; length++) {
    free = free * 2 - (counts[length] ?? 0);
    if (free < 0) throw new InflateError("there are more codes than bits");
  }
  if (free > 0 && !incomplete) throw new InflateError("a set of codes is incomplete");
  const symbols = lengthsOfSymbols
    .map((length, symbol) => ({ length, symbol }))
    .filter(({ length }) => length > 0)
    .sort((one, other) => one.length - other.length || one.symbol - other.symbol)
    .map(({ symbol }) => symbol);
  return { counts, symbols: Uint16Array.from(symbols) };
}

/** One bit after another: codes of a length follow each other, and are more than all shorter ones. */
function decode(bits: BitReader, { counts, symbols }: Code): number {
  let code = 0;
  let first = 0;
  let index = 0;
  for (let length = 1; length <= longestCode; length++) {
    code |= bits.take(1);
    const count = counts[length] ?? 0;
    const symbol = code - count < first ? symbols[index + code - first] : undefined;
    if (symbol !== undefined) return symbol;
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  throw new InflateError("a code means nothing");
}
