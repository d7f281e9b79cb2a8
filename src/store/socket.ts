import { Socket } from 'node:net';

/** What postgres.js hands to its `socket` option. */
interface Target {
  readonly host: readonly string[];
  readonly port: readonly number[];
  readonly path?: string | false | undefined;
}

/**
 * Makes the sockets of a pool. A plain one tells of an error first and closes a turn of the event loop later; in between
 * postgres.js takes the connection for usable, and a query sent there never settles, nor does what comes after it on the
 * same connection. Ours closes in the tick of the error.
 */
export class Sockets {
  readonly #open = new Set<Socket>();
  #made = 0;
  #isClosed = false;

  readonly make = ({ host, port, path }: Target): Socket => {
    const index = this.#made++ % host.length;
    const socket = new Socket();
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    // postgres.js writes its greeting at once and hands it over with the next immediate. Connecting one immediate earlier,
    // and not now, lets no refusal come in between: the greeting would be kept, and sent twice by the next connection.
    setImmediate(() => {
      // A pool that closes has ended it already, and forgotten it: connecting would bring it back to life, and an error
      // that nobody listens to any more would end the process.
      if (socket.destroyed || this.#isClosed) return;
      if (path) socket.connect(path);
      else socket.connect(port[index] ?? 5432, host[index] ?? 'localhost');
    });
    // A later tick than the error's own listeners, and still before anybody who waits for a promise.
    socket.on('error', () => process.nextTick(() => socket.emit('close', true)));
    return socket;
  };

  /** When the pool has ended: one that it was about to get just then, it has forgotten as well. */
  close(): void {
    this.#isClosed = true;
    for (const socket of this.#open) socket.destroy();
  }
}
