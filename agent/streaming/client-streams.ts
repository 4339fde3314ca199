/** What exec and attach need of a client, whichever protocol it speaks. */
import type { Outcome } from "./status.js";

export interface Outlet {
  /** Sends what stands in a buffer of takeBuffer() between its headroom and `end`. The buffer is not the caller's any more. */
  write(buffer: Buffer, end: number): void;
  end(): void;
}

/** What a call has asked for. */
export interface WantedStreams {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

export interface ClientStreams {
  readonly stdout: Outlet;
  readonly stderr: Outlet;
  /** false: no more should be written until `onDrain` */
  readonly hasRoom: boolean;
  /** stops reading from the client: neither input nor sizes come, except for what was read already */
  pause(): void;
  resume(): void;
  /** The program's streams are there. */
  begin(): void;
  /** Tells the outcome, and closes everything. */
  finish(outcome: Outcome): void;

  onStdin: (bytes: Buffer) => void;
  /** no more input comes */
  onStdinEnd: () => void;
  onResize: (columns: number, rows: number) => void;
  onDrain: () => void;
  /** the client is not there any more; nothing else comes */
  onGone: () => void;
}

const longestSize = 65535;
/** Of a message with a terminal's size: {"Width":80,"Height":24} */
export const longestResizeMessage = 1024;

/** A terminal's size as clients send it; null: it is none. */
export function parseSize(text: string): { columns: number; rows: number } | null {
  let size: unknown;
  try {
    size = JSON.parse(text);
  } catch {
    return null;
  }
  const { Width: columns, Height: rows } = (size ?? {}) as { Width?: unknown; Height?: unknown };
  return isLength(columns) && isLength(rows) ? { columns, rows } : null;
}

function isLength(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= longestSize;
}
