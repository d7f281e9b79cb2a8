import type net from 'node:net';
import { EgressError, HEADERS_TOO_LARGE, RESPONSE_TOO_LARGE } from './failure.ts';

/** What the parser gets at once, so that what it makes of a flood stays small before anybody can say stop. */
const PIECE_BYTES = 1024;
const MAX_LINES = 256;

/**
 * Stands between a socket and undici's parser, which pulls what has arrived, 64 KiB at a time, and makes two buffers of
 * each header, and an error of each beyond its bound: 10,000 headers of one letter took 60 ms of processor time and
 * 3.5 MB of memory per attempt, as many trailers 125 ms; with the meter 1 ms. What the parser swallows without
 * reporting it (head, trailers, chunk extensions, empty lines) may have so many bytes and lines.
 */
export class Meter {
  readonly #socket: net.Socket;
  readonly #maxBytes: number;
  #bytes = 0;
  #lines = 0;
  #hasHead = false;

  constructor(socket: net.Socket, maxBytes: number) {
    this.#socket = socket;
    this.#maxBytes = maxBytes;
    const read = socket.read.bind(socket) as (size?: number) => Buffer | null;
    // With a size, it is the stream itself that reads.
    socket.read = (size?: number) => (size === undefined ? this.#read(read) : read(size));
  }

  /** The next response begins. */
  start(): void {
    this.#bytes = 0;
    this.#lines = 0;
    this.#hasHead = false;
  }

  /** The parser has reported the response's head, or a part of its body. */
  progress(): void {
    this.#bytes = 0;
    this.#lines = 0;
    this.#hasHead = true;
  }

  #read(read: (size?: number) => Buffer | null): Buffer | null {
    const socket = this.#socket;
    if (socket.destroyed) return null;
    if (this.#lines > MAX_LINES || this.#bytes > this.#maxBytes) {
      const isHead = this.#lines > MAX_LINES || !this.#hasHead;
      socket.destroy(new EgressError(isHead ? HEADERS_TOO_LARGE : RESPONSE_TOO_LARGE));
      return null;
    }
    const piece = socket.readableLength > PIECE_BYTES ? read(PIECE_BYTES) : read();
    if (piece !== null) this.#count(piece);
    return piece;
  }

  #count(piece: Buffer): void {
    this.#bytes += piece.length;
    for (let at = piece.indexOf(10); at !== -1; at = piece.indexOf(10, at + 1)) this.#lines++;
  }
}
