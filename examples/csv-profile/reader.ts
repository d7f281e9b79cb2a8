import { DELIMITERS, type Delimiter } from './schema.ts';

/**
 * Reads CSV as RFC 4180 has it, and as it is found: LF, CRLF or CR, a BOM, other delimiters, a quote inside an unquoted
 * field taken literally. What has no single reading (an open quote, text after a closing one) is an error.
 */

const QUOTE = 0x22;
const LF = 0x0a;
const CR = 0x0d;
const BOM = 0xfeff;
const SAMPLE_CHARS = 65_536;
const SAMPLE_RECORDS = 100;

/** One field is read without a pause; a longer one would hold up the event loop. */
export const MAX_FIELD_CHARS = 1024 * 1024;

/** The text is not CSV that can be profiled; `line` counts from 1. */
export class CsvError extends Error {
  override readonly name = 'CsvError';
  readonly line: number;

  constructor(line: number, problem: string) {
    super(`line ${line}: ${problem}`);
    this.line = line;
  }
}

export interface CsvRecord {
  /** Where it starts: a quoted field may span lines. */
  readonly line: number;
  readonly fields: readonly string[];
  /** Nothing at all between two line breaks; `""` is a field. */
  readonly blank: boolean;
}

export class CsvReader {
  readonly #text: string;
  readonly #delimiter: number;
  readonly #maxFields: number;
  #at: number;
  #line = 1;

  constructor(text: string, delimiter: Delimiter, maxFields: number) {
    this.#text = text;
    this.#delimiter = delimiter.charCodeAt(0);
    this.#maxFields = maxFields;
    this.#at = text.charCodeAt(0) === BOM ? 1 : 0;
  }

  /** Characters read so far. */
  get position(): number {
    return this.#at;
  }

  next(): CsvRecord | undefined {
    if (this.#at >= this.#text.length) return undefined;
    const start = this.#at;
    const line = this.#line;
    const fields: string[] = [];
    do {
      if (fields.length === this.#maxFields) throw new CsvError(line, `more than ${this.#maxFields} fields`);
      fields.push(this.#text.charCodeAt(this.#at) === QUOTE ? this.#quoted() : this.#plain());
    } while (this.#skipDelimiter());
    const blank = this.#at === start;
    this.#skipLineBreak();
    return { line, fields, blank };
  }

  #plain(): string {
    const start = this.#at;
    let end = start;
    for (; end < this.#text.length; end++) {
      const code = this.#text.charCodeAt(end);
      if (code === this.#delimiter || code === LF || code === CR) break;
    }
    this.#checkLength(end - start);
    this.#at = end;
    return this.#text.slice(start, end);
  }

  #quoted(): string {
    const start = this.#at + 1;
    let end = this.#text.indexOf('"', start);
    let doubled = false;
    while (end !== -1 && this.#text.charCodeAt(end + 1) === QUOTE) {
      doubled = true;
      this.#checkLength(end - start);
      end = this.#text.indexOf('"', end + 2);
    }
    if (end === -1) throw new CsvError(this.#line, 'a quoted field starts here and never ends');
    this.#checkLength(end - start);
    this.#line += countLineBreaks(this.#text, start, end);
    this.#at = end + 1;
    if (!this.#atFieldEnd()) throw new CsvError(this.#line, 'text follows the closing quote of a field');
    const raw = this.#text.slice(start, end);
    return doubled ? raw.replaceAll('""', '"') : raw;
  }

  #checkLength(chars: number): void {
    if (chars > MAX_FIELD_CHARS) throw new CsvError(this.#line, `a field is longer than ${MAX_FIELD_CHARS} characters`);
  }

  #atFieldEnd(): boolean {
    if (this.#at >= this.#text.length) return true;
    const code = this.#text.charCodeAt(this.#at);
    return code === this.#delimiter || code === LF || code === CR;
  }

  #skipDelimiter(): boolean {
    if (this.#text.charCodeAt(this.#at) !== this.#delimiter) return false;
    this.#at++;
    return true;
  }

  #skipLineBreak(): void {
    if (this.#at >= this.#text.length) return;
    const crlf = this.#text.charCodeAt(this.#at) === CR && this.#text.charCodeAt(this.#at + 1) === LF;
    this.#at += crlf ? 2 : 1;
    this.#line++;
  }
}

function countLineBreaks(text: string, from: number, to: number): number {
  let breaks = 0;
  for (let at = from; at < to; at++) {
    const code = text.charCodeAt(at);
    if (code === CR || (code === LF && text.charCodeAt(at - 1) !== CR)) breaks++;
  }
  return breaks;
}

/**
 * The delimiter under which most records have as many fields as the first; more fields win a tie. A comma when fewer than
 * half do under any: then there is one column, with some punctuation in its text.
 */
export function detectDelimiter(text: string): Delimiter {
  const sample = text.slice(0, SAMPLE_CHARS);
  let best: { delimiter: Delimiter; agreeing: number; width: number } = { delimiter: ',', agreeing: 0.5, width: 1 };
  for (const delimiter of DELIMITERS) {
    const widths = sampleWidths(sample, delimiter);
    const width = widths[0] ?? 0;
    if (width < 2) continue;
    const agreeing = widths.filter((other) => other === width).length / widths.length;
    if (agreeing > best.agreeing || (agreeing === best.agreeing && width > best.width)) {
      best = { delimiter, agreeing, width };
    }
  }
  return best.delimiter;
}

function sampleWidths(sample: string, delimiter: Delimiter): number[] {
  const reader = new CsvReader(sample, delimiter, Infinity);
  const widths: number[] = [];
  try {
    for (let record = reader.next(); record && widths.length < SAMPLE_RECORDS; record = reader.next()) {
      if (!record.blank) widths.push(record.fields.length);
    }
  } catch (error) {
    // The end of the sample cut a quoted field, or this delimiter is the wrong one: judge by what was read.
    if (!(error instanceof CsvError)) throw error;
  }
  return widths;
}
