/**
 * Layers on their way into the store: how far each one is, for whoever shows it, and how fast it may come. A layer that
 * several pulls want from one registry comes once, and all of them see the same transfer.
 */
import { getPriority } from "node:os";
import type { Observer } from "../../sandbox/observer.js";
import type { UnpackProcess } from "../../sandbox/rootfs/unpack-layer.js";

/** "exists": it was there before; "unpacking": all its bytes have come. */
export type TransferState = "exists" | "waiting" | "downloading" | "unpacking" | "complete";

/** It changes while the layer comes. */
export interface LayerProgress {
  /** of the blob; of the uncompressed layer where no blob is known */
  readonly digest: string;
  /** of the blob; 0: not known */
  readonly totalBytes: number;
  /** of the blob, that have come */
  readonly bytes: number;
  readonly state: TransferState;
}

/** Who may let bytes wait: a pull of low priority. */
export interface Pace {
  /** Resolves when so many bytes may go on, or with the signal; it never rejects. */
  admit(bytes: number, letGo: AbortSignal): Promise<void>;
}

export interface WantedLayer {
  /** the registry that it comes from, in whose trust and speed all share who want it from there; absent: an archive */
  registry?: string | undefined;
  chainId: string;
  diffId: string;
  blob?: { digest: string; size: number } | undefined;
}

/** Who wants the same is served by one transfer. */
export function transferKey({ registry = "", chainId }: WantedLayer): string {
  return `${registry} ${chainId}`;
}

export interface WantedLayers {
  /** in their order */
  layers: readonly LayerProgress[];
  /** Nobody waits for them here any more. */
  leave(): void;
}

/** The fetcher's side of a transfer. */
export interface RunningTransfer {
  /** Passes the bytes on, counts them, and lets them wait as long as nobody wants them at full speed. */
  follow(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** It goes last of all as long as nobody wants the layer at full speed. */
  unpackedBy(process: UnpackProcess): void;
  unpacked(): void;
  committed(): void;
}

/** So much nicer than the agent itself: where both want the processors, calls go first, and a pull is as fast as before. */
const nicer = 10;
/** The last of all. */
const patientNice = 19;
/** Bytes are told to the observer in pieces of this size, not one by one. */
const toldBytes = 1024 ** 2;

export class Transfers {
  readonly #transfers = new Map<string, Transfer>();
  readonly #observer: Observer;

  constructor(observer: Observer) {
    this.#observer = observer;
  }

  /**
   * @param pace absent: at full speed, whoever else wants the same layer
   * @param exists which chain ids are in the store already
   */
  want(wanted: readonly WantedLayer[], exists: (chainId: string) => boolean, pace?: Pace): WantedLayers {
    const transfers = wanted.map((layer) => {
      const transfer = this.#transferOf(layer);
      if (exists(layer.chainId) && transfer.state === "waiting") transfer.state = "exists";
      return transfer;
    });
    const leaves = transfers.map((transfer) => transfer.join(pace));
    return {
      layers: transfers,
      leave: () => {
        for (const leave of leaves) leave();
        for (const key of wanted.map(transferKey))
          if (this.#transfers.get(key)?.isWanted === false) this.#transfers.delete(key);
      },
    };
  }

  begin(layer: WantedLayer): RunningTransfer {
    return this.#transferOf(layer).begin();
  }

  #transferOf(layer: WantedLayer): Transfer {
    const key = transferKey(layer);
    const known = this.#transfers.get(key);
    if (known !== undefined) return known;
    const made = new Transfer(layer, this.#observer);
    this.#transfers.set(key, made);
    return made;
  }
}

class Transfer implements LayerProgress {
  readonly digest: string;
  readonly totalBytes: number;
  bytes = 0;
  state: TransferState = "waiting";
  readonly #observer: Observer;
  readonly #paces = new Set<{ pace: Pace | undefined }>();
  #letGo = new AbortController();
  #process: UnpackProcess | undefined;

  constructor(layer: WantedLayer, observer: Observer) {
    this.digest = layer.blob?.digest ?? layer.diffId;
    this.totalBytes = layer.blob?.size ?? 0;
    this.#observer = observer;
  }

  get isWanted(): boolean {
    return this.#paces.size > 0;
  }

  join(pace: Pace | undefined): () => void {
    const participant = { pace };
    this.#paces.add(participant);
    if (pace === undefined) this.#letGo.abort();
    this.#setNice();
    return () => {
      this.#paces.delete(participant);
      this.#setNice();
    };
  }

  /** Whether everybody who wants it can wait. */
  get #isPatient(): boolean {
    return this.isWanted && [...this.#paces].every(({ pace }) => pace !== undefined);
  }

  #setNice(): void {
    this.#process?.setNice(this.#isPatient ? patientNice : Math.min(getPriority() + nicer, patientNice));
  }

  begin(): RunningTransfer {
    this.bytes = 0;
    this.state = "waiting";
    const step = stopwatch(this.#observer);
    return {
      follow: (source, signal) => {
        this.state = "downloading";
        return this.#follow(source, signal, () => {
          this.state = "unpacking";
          step("download");
        });
      },
      unpackedBy: (process) => {
        this.#process = process;
        this.#setNice();
      },
      unpacked: () => {
        this.#process = undefined;
        step("unpack");
      },
      committed: () => {
        this.state = "complete";
        step("commit");
      },
    };
  }

  // no generator: its return() would wait for a next() that waits
  #follow(
    source: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
    onEnd: () => void,
  ): AsyncIterable<Uint8Array, void, undefined> {
    const chunks = source[Symbol.asyncIterator]();
    let untold = 0;
    const tell = (): void => {
      if (untold > 0) this.#observer.emit({ type: "pull-bytes", bytes: untold });
      untold = 0;
    };
    const close = new AbortController();
    const stop = AbortSignal.any([signal, close.signal]);
    const iterator: AsyncIterator<Uint8Array, void, undefined> = {
      next: async () => {
        const result = await chunks.next();
        if (result.done) {
          tell();
          onEnd();
          return { done: true, value: undefined };
        }
        this.bytes += result.value.length;
        untold += result.value.length;
        if (untold >= toldBytes) tell();
        await this.#admit(result.value.length, stop);
        return result;
      },
      return: async () => {
        close.abort();
        tell();
        await chunks.return?.();
        return { done: true, value: undefined };
      },
    };
    return { [Symbol.asyncIterator]: () => iterator };
  }

  async #admit(bytes: number, stop: AbortSignal): Promise<void> {
    let slowest: Pace | undefined;
    for (const { pace } of this.#paces) {
      if (pace === undefined) return;
      slowest = pace;
    }
    if (slowest === undefined || stop.aborted) return;
    if (this.#letGo.signal.aborted) this.#letGo = new AbortController();
    const letGo = this.#letGo;
    const release = (): void => letGo.abort();
    stop.addEventListener("abort", release, { once: true });
    try {
      await slowest.admit(bytes, letGo.signal);
    } finally {
      stop.removeEventListener("abort", release);
    }
  }
}

/** Tells how long the steps of a layer took, one after another. */
function stopwatch(observer: Observer): (step: string) => void {
  let begun = process.hrtime.bigint();
  return (step) => {
    const now = process.hrtime.bigint();
    observer.emit({ type: "step", operation: "pull-image", step, seconds: Number(now - begun) / 1e9 });
    begun = now;
  };
}
