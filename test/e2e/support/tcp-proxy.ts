import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** A way to the database that a test can cut: the service uses it, the test itself goes directly. */
export interface TcpProxy {
  /** The database's URL, through here. */
  readonly url: string;
  /** Resets every connection, in the middle of whatever they carry, and refuses new ones. */
  cut(): Promise<void>;
  /** Takes connections again, at the same port. */
  restore(): Promise<void>;
  /** Passes nothing on and closes nothing, as a network that drops packets does. */
  stall(): void;
  /** Passes nothing on of the next connection that says something, and of that one only. Resolves with what it said. */
  silenceNext(pattern?: RegExp): Promise<string>;
  /** The database receives, and is not heard: what it answers is thrown away. Ends with `restore`. */
  mute(): void;
  /** Ends what `stall` began. */
  flow(): void;
  /** Resets connections from now on opened at their first statement, and those that are open now. Ends with `restore`. */
  breakAtFirstStatement(): void;
  /** How many connections `breakAtFirstStatement` has reset since it was called. */
  readonly broken: number;
}

/** What PostgreSQL says once a connection may be used: 'Z', a length of 5, 'I' for idle. */
const READY_FOR_QUERY = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/** Gone when the test is. */
export async function startTcpProxy(databaseUrl: string): Promise<TcpProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let stalled = false;
  let held: Array<() => void> = [];
  let breaks = false;
  let isMute = false;
  const upstreams = new WeakSet<Socket>();
  let broken = 0;
  const greeted = new WeakSet<Socket>();
  const silent = new WeakSet<Socket>();
  let silencing: { pattern: RegExp; resolve: (said: string) => void } | undefined;
  const pass = (from: Socket, to: Socket) => {
    sockets.add(from);
    from.on('close', () => {
      sockets.delete(from);
      to.destroy();
    });
    from.on('error', () => {});
    from.on('data', (chunk: Buffer) => {
      if (breaks && greeted.has(from)) {
        broken += 1;
        from.resetAndDestroy();
        return;
      }
      if (chunk.includes(READY_FOR_QUERY)) greeted.add(to);
      if (silencing !== undefined && greeted.has(from) && silencing.pattern.test(chunk.toString('latin1'))) {
        silent.add(from).add(to);
        silencing.resolve(chunk.toString('latin1'));
        silencing = undefined;
      }
      if (silent.has(from)) return;
      if (isMute && upstreams.has(from)) return;
      if (stalled) held.push(() => to.write(chunk));
      else to.write(chunk);
    });
  };
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    upstreams.add(upstream);
    pass(client, upstream);
    pass(upstream, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const url = new URL(databaseUrl);
  url.host = `127.0.0.1:${port}`;

  async function cut(): Promise<void> {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
    await closed;
  }
  onTestFinished(cut);
  return {
    url: url.href,
    cut,
    restore: async () => {
      breaks = false;
      isMute = false;
      if (server.listening) return;
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
    mute: () => void (isMute = true),
    stall: () => void (stalled = true),
    silenceNext: (pattern = /./s) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      silencing = { pattern, resolve };
      return promise;
    },
    flow: () => {
      stalled = false;
      for (const send of held) send();
      held = [];
    },
    breakAtFirstStatement: () => {
      breaks = true;
      broken = 0;
      for (const socket of sockets) socket.resetAndDestroy();
    },
    get broken() {
      return broken;
    },
  };
}
