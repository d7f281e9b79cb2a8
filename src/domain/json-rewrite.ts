import { literalEnd, skipSpace, stringEnd, stringValue } from './json-text.ts';

/** Names and indexes, from the outside in. Valid during the call that it is passed to. */
export type JsonPath = ReadonlyArray<string | number>;

/** What stands for a number, `true`, `false` or `null`. */
export type RewriteLiteral = (literal: string, path: JsonPath) => string;

/**
 * Writes JSON anew: without white space, strings spelled as `JSON.stringify` spells them, and of several members with one
 * name the last, where the first was. The order stays as it is.
 * @param text not nested deeper than `MAX_DEPTH` (json.ts), for each level is a call
 */
export function rewriteJson(text: string, literal: RewriteLiteral = (same) => same): string {
  return new Rewriter(text, literal).value();
}

class Rewriter {
  readonly #text: string;
  readonly #literal: RewriteLiteral;
  readonly #path: Array<string | number> = [];
  #at = 0;

  constructor(text: string, literal: RewriteLiteral) {
    this.#text = text;
    this.#literal = literal;
  }

  value(): string {
    switch (this.#peek()) {
      case '{':
        return this.#object();
      case '[':
        return this.#list();
      case '"':
        return JSON.stringify(stringValue(this.#take(stringEnd)));
      default:
        return this.#literal(this.#take(literalEnd), this.#path);
    }
  }

  #object(): string {
    const members = new Map<string, string>();
    for (this.#at += 1; this.#peek() !== '}';) {
      if (this.#peek() === ',') this.#at += 1;
      this.#peek();
      const name = stringValue(this.#take(stringEnd));
      this.#peek();
      this.#at += 1; // the colon
      members.set(name, this.#below(name));
    }
    this.#at += 1;
    // Not joined, here and below: that would copy the innermost text once for every level.
    let object = '';
    for (const [name, value] of members) object += `${object === '' ? '' : ','}${JSON.stringify(name)}:${value}`;
    return `{${object}}`;
  }

  #list(): string {
    let list = '';
    let length = 0;
    for (this.#at += 1; this.#peek() !== ']'; length += 1) {
      if (this.#peek() === ',') this.#at += 1;
      list += `${length === 0 ? '' : ','}${this.#below(length)}`;
    }
    this.#at += 1;
    return `[${list}]`;
  }

  #below(segment: string | number): string {
    this.#path.push(segment);
    const value = this.value();
    this.#path.pop();
    return value;
  }

  #peek(): string {
    this.#at = skipSpace(this.#text, this.#at);
    return this.#text.charAt(this.#at);
  }

  #take(end: (text: string, from: number) => number): string {
    const from = this.#at;
    this.#at = end(this.#text, from);
    return this.#text.slice(from, this.#at);
  }
}
