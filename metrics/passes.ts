/** Readings of many things in one pass, which callers share: whoever asks while one is under way, or shortly after it. */

/** For how long a pass serves further callers, from its beginning; one that takes longer serves them until it ends. */
const freshMs = 100;
/** Fewer than this part of all are read by themselves. */
const fewOf = 4;

interface Pass<Item, Value> {
  begunAtMs: number;
  done: boolean;
  result: Promise<ReadonlyMap<Item, Value>>;
}

export class SharedReadings<Node extends object, Item, Value> {
  readonly #latest = new WeakMap<Node, Pass<Item, Value>>();

  /** A pass reads what `isThere`; what has gone by the time of an answer is not in it. */
  constructor(
    private readonly list: (node: Node) => readonly Item[],
    private readonly isThere: (item: Item) => boolean,
    private readonly read: (node: Node, items: readonly Item[]) => Promise<ReadonlyMap<Item, Value>>,
  ) {}

  /** Of all that there are. */
  async ofAll(node: Node): Promise<ReadonlyMap<Item, Value>> {
    const values = await this.#pass(node);
    return new Map([...values].filter(([item]) => this.isThere(item)));
  }

  /** Of these. A few are read by themselves, unless somebody has read all of them just now. */
  async of(node: Node, items: readonly Item[]): Promise<ReadonlyMap<Item, Value>> {
    const few = items.length * fewOf < this.list(node).length;
    const values = await (few ? this.#fresh(node) : this.#pass(node));
    const result = new Map<Item, Value>();
    const missing: Item[] = [];
    for (const item of items) {
      const value = values?.get(item);
      if (!this.isThere(item)) continue;
      if (value === undefined) missing.push(item);
      else result.set(item, value);
    }
    if (missing.length > 0) for (const [item, value] of await this.read(node, missing)) result.set(item, value);
    return result;
  }

  #pass(node: Node): Promise<ReadonlyMap<Item, Value>> {
    const fresh = this.#fresh(node);
    if (fresh !== undefined) return fresh;
    const items = this.list(node).filter(this.isThere);
    const pass = { begunAtMs: performance.now(), done: false, result: this.read(node, items) };
    this.#latest.set(node, pass);
    pass.result.then(
      () => {
        pass.done = true;
      },
      // a pass that failed serves nobody else
      () => this.#latest.delete(node),
    );
    return pass.result;
  }

  #fresh(node: Node): Promise<ReadonlyMap<Item, Value>> | undefined {
    const pass = this.#latest.get(node);
    if (pass === undefined || (pass.done && performance.now() - pass.begunAtMs >= freshMs)) return undefined;
    return pass.result;
  }
}
