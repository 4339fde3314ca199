/** Chances that are the same for the same seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    // neighbouring seeds must not begin alike
    this.#state = Math.imul(seed + 1, 0x9e37_79b1) >>> 0;
  }

  /** 0 to 1, without 1 (mulberry32) */
  next(): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** from low to high, both possible */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  pick<T>(list: readonly T[]): T {
    return list[this.whole(0, list.length - 1)] as T;
  }

  /** up to `most` of them, each once, in random order */
  some<T>(list: readonly T[], most: number): T[] {
    const left = [...list];
    const found: T[] = [];
    for (let count = this.whole(0, Math.min(most, list.length)); count > 0; count--) {
      found.push(...left.splice(this.whole(0, left.length - 1), 1));
    }
    return found;
  }
}
