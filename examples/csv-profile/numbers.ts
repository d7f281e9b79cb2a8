/** Count, range, mean and variance of a series in one pass, and its histogram in a second. */

const FIRST_CAPACITY = 1024;
const CHUNK = 65_536;

export interface Bin {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

export class NumberSeries {
  /** Kept because a histogram needs the range before it can place the first value. */
  #values = new Float64Array(FIRST_CAPACITY);
  #count = 0;
  #mean = 0;
  #squares = 0;
  #min = Infinity;
  #max = -Infinity;

  /**
   * Welford's update (Technometrics 4, 1962): summing squares instead loses every digit when the mean is large against
   * the spread, as with timestamps.
   */
  add(value: number): void {
    if (this.#count === this.#values.length) this.#grow();
    this.#values[this.#count++] = value;
    const delta = value - this.#mean;
    this.#mean += delta / this.#count;
    this.#squares += delta * (value - this.#mean);
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  get min(): number {
    return this.#min;
  }

  get max(): number {
    return this.#max;
  }

  get mean(): number {
    // Rounding may push the mean of equal values out of their range by one ulp.
    return Math.min(Math.max(this.#mean, this.#min), this.#max);
  }

  /** Of a sample; null below two values. */
  get stddev(): number | null {
    return this.#count < 2 ? null : Math.sqrt(this.#squares / (this.#count - 1));
  }

  /** Equal widths, half open, the last one closed; one bin when all values are the same. Yields between chunks. */
  *histogram(bins: number): Generator<void, Bin[]> {
    const [min, max] = [this.#min, this.#max];
    if (min === max) return [{ from: min, to: max, count: this.#count }];
    const edges = Array.from({ length: bins + 1 }, (_, index) =>
      index === bins ? max : min + (max - min) * (index / bins),
    );
    const counts = Array.from({ length: bins }, () => 0);
    for (let start = 0; start < this.#count; start += CHUNK) {
      for (const value of this.#values.subarray(start, Math.min(start + CHUNK, this.#count))) {
        const bin = findBin(edges, value);
        counts[bin] = (counts[bin] ?? 0) + 1;
      }
      yield;
    }
    return counts.map((count, index) => ({ from: edges[index] ?? min, to: edges[index + 1] ?? max, count }));
  }

  #grow(): void {
    const larger = new Float64Array(this.#values.length * 2);
    larger.set(this.#values);
    this.#values = larger;
  }
}

/** Division finds the bin, comparison with the edges corrects its rounding, so that the counts fit the edges shown. */
function findBin(edges: readonly number[], value: number): number {
  const last = edges.length - 2;
  const min = edges[0] ?? 0;
  const max = edges[last + 1] ?? 0;
  let bin = Math.min(last, Math.floor(((value - min) / (max - min)) * (last + 1)));
  while (bin > 0 && value < (edges[bin] ?? -Infinity)) bin--;
  while (bin < last && value >= (edges[bin + 1] ?? Infinity)) bin++;
  return bin;
}
