declare module "snappyjs" {
  /** Snappy's block format (format_description.txt), which is also its framing's inside. */
  export function compress(bytes: Buffer): Buffer;
  /** @throws where it is not that format */
  export function uncompress(bytes: Buffer): Buffer;
}
