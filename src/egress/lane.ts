import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { Client } from 'undici';
import type { CallbackUrl } from '#domain/callback-url.ts';
import { dial, newLink, type DialOptions, type Link } from './dial.ts';
import { EgressError, RESPONSE_TOO_LARGE } from './failure.ts';
import { Meter } from './meter.ts';

export interface LaneOptions extends DialOptions {
  readonly maxHeaderBytes: number;
  readonly maxWireBytes: number;
  /** Whether the other side may mean harm: see `Meter`. Large bodies take longer then. */
  readonly wary: boolean;
}

/**
 * One undici client, so one connection at a time, lent to one attempt at a time. That makes plain which connection
 * served an attempt, lets a deadline end a connection attempt that undici alone would let run on, and leaves undici
 * nothing to retry or to pipeline: one attempt is at most one request on the wire.
 */
export class Lane {
  /** Which requests may use it: see `LanePool`. */
  readonly key: string;
  readonly client: Client;
  link: Link = newLink();
  idle = false;
  #dialing: AbortController | undefined;
  #socket: Socket | undefined;
  #meter: Meter | undefined;
  #wireLimit = 0;
  readonly #maxWireBytes: number;

  constructor(key: string, url: CallbackUrl, options: LaneOptions, onDisconnect: (lane: Lane) => void) {
    this.key = key;
    this.#maxWireBytes = options.maxWireBytes;
    this.client = new Client(url.origin, {
      allowH2: false,
      pipelining: 1,
      maxHeaderSize: options.maxHeaderBytes,
      headersTimeout: 0, // the attempt's one deadline covers these two
      bodyTimeout: 0,
      keepAliveMaxTimeout: 60_000, // a receiver may ask for more, but DNS changes should be noticed
      connect: (_, callback) => {
        this.#dial(url, options).then(
          (socket) => callback(null, socket),
          (error: Error) => callback(error, null),
        );
      },
    });
    this.client.on('disconnect', () => onDisconnect(this));
  }

  async #dial(url: CallbackUrl, options: LaneOptions): Promise<Socket> {
    this.#dialing = new AbortController();
    this.link = newLink();
    const socket = await dial(url, this.link, options, this.#dialing.signal);
    this.#dialing = undefined;
    this.#socket = socket;
    this.#meter = options.wary ? new Meter(socket, options.maxHeaderBytes) : undefined;
    this.#wireLimit = this.#maxWireBytes;
    socket.on('readable', () => {
      if (socket.bytesRead > this.#wireLimit) socket.destroy(new EgressError(RESPONSE_TOO_LARGE));
    });
    return socket;
  }

  /**
   * Starts the count of response bytes. Header and body bounds miss what the parser swallows without reporting:
   * empty lines before the status line, an endless reason phrase, chunk extensions.
   */
  limitResponse(maxWireBytes = this.#maxWireBytes): void {
    if (this.#socket) this.#wireLimit = this.#socket.bytesRead + maxWireBytes;
    this.#meter?.start();
  }

  /** The head of the response, or a part of its body, has come out of the parser. */
  progress(): void {
    this.#meter?.progress();
  }

  /**
   * Whether the request has left this process. A server may answer before it has read all of it, and never read the
   * rest: the next request would wait behind that.
   */
  isFlushed(): boolean {
    return this.#socket?.writableLength === 0;
  }

  /** Ends the connection, or the attempt to make one, at once. */
  destroy(): void {
    this.#dialing?.abort(new Error('the attempt is over'));
    this.client.destroy(null, () => {});
    this.#socket?.destroy(); // undici does so later: until then its parser would go on with what has arrived
  }
}

/** With whom requests share connections, besides the origin. */
export interface LaneIdentity {
  readonly fingerprint: string;
  readonly secureContext: SecureContext;
}

/**
 * Idle lanes by origin and identity: a connection that a client certificate opened is nobody else's. The one used last
 * is lent first, so that surplus connections fall idle and close.
 */
export class LanePool {
  readonly #options: LaneOptions;
  readonly #idle = new Map<string, Lane[]>();

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  take(url: CallbackUrl, identity?: LaneIdentity): Lane {
    const key = identity ? `${url.origin} ${identity.fingerprint}` : url.origin;
    const lane = this.#idle.get(key)?.pop() ?? this.#make(key, url, identity);
    lane.idle = false;
    return lane;
  }

  #make(key: string, url: CallbackUrl, identity?: LaneIdentity): Lane {
    const options = identity ? { ...this.#options, secureContext: identity.secureContext } : this.#options;
    return new Lane(key, url, options, (gone) => this.#onDisconnect(gone));
  }

  /** After a whole response: the connection is fit for another one, unless the receiver closes it. */
  giveBack(lane: Lane): void {
    lane.idle = true;
    const idle = this.#idle.get(lane.key);
    if (idle) idle.push(lane);
    else this.#idle.set(lane.key, [lane]);
  }

  /** After anything else: what the receiver may still send on it would be taken for the next answer. */
  discard(lane: Lane): void {
    lane.destroy();
    if (this.#idle.get(lane.key)?.length === 0) this.#idle.delete(lane.key);
  }

  closeIdle(): void {
    for (const lanes of this.#idle.values()) for (const lane of lanes) lane.destroy();
    this.#idle.clear();
  }

  #onDisconnect(lane: Lane): void {
    if (!lane.idle) return; // its attempt hears of it from undici
    const idle = this.#idle.get(lane.key);
    const index = idle?.indexOf(lane) ?? -1;
    if (index >= 0) idle?.splice(index, 1);
    this.discard(lane);
  }
}
