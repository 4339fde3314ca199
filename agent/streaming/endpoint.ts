import { type ByteStream, native, readable, writable } from "../../native/binding.js";

/** A descriptor with a reader, a writer or both. */
export class Endpoint {
  readonly stream: ByteStream;
  onReadable: () => void = () => undefined;
  onWritable: () => void = () => undefined;
  #events = 0;
  #closed = false;

  /** Takes the descriptor over. */
  constructor(fd: number) {
    this.stream = new native.ByteStream(fd, (events) => {
      if ((events & readable) !== 0 && (this.#events & readable) !== 0) this.onReadable();
      if ((events & writable) !== 0 && (this.#events & writable) !== 0) this.onWritable();
    });
  }

  want(event: number, wanted: boolean): void {
    const events = wanted ? this.#events | event : this.#events & ~event;
    if (events === this.#events || this.#closed) return;
    this.#events = events;
    this.stream.listen(events);
  }

  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events = 0;
    this.stream.close();
  }
}
