import net from 'node:net';
import tls from 'node:tls';
import { gzipSync } from 'node:zlib';
import type { AttemptOutcome } from '#domain/attempt.ts';
import { EXPIRED_CERTIFICATE, OTHER_CERTIFICATE, OTHER_KEY, TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';

/** A way in which a receiver can harm who calls it back, and what is recorded of an attempt that meets it. */
export interface HostileReceiver {
  readonly name: string;
  readonly server: () => net.Server;
  readonly outcome: AttemptOutcome;
  /** One of these: where several stand, the kernel decides what is noticed first. */
  readonly errorCodes: ReadonlyArray<string | null>;
  /** Over TLS, as this host. */
  readonly secureHost?: string;
  /** Bytes of the request's body; few without. */
  readonly bodyBytes?: number;
  /**
   * The attempt that counts is the second one, the first one is delivered: at once after that, or when its connection
   * is known to be gone.
   */
  readonly second?: 'at once' | 'once closed';
}

type Answer = (socket: net.Socket, request: Buffer) => void;

const HEAD = 'HTTP/1.1 200 OK\r\n';
const EMPTY = `${HEAD}content-length: 0\r\n\r\n`;
const BIG = 16_777_216; // more than the kernel takes off our hands

/** Answers when the first bytes of a request are there, at each of them when the connection is used again. */
function plain(answer: Answer): () => net.Server {
  return () => net.createServer((socket) => socket.on('error', () => {}).on('data', (data) => answer(socket, data)));
}

function accepting(onConnection: (socket: net.Socket) => void): () => net.Server {
  return () => net.createServer((socket) => onConnection(socket.on('error', () => {})));
}

function secure(answer: Answer, options: tls.TlsOptions = {}): () => net.Server {
  return () => {
    const own = { key: TEST_KEY, cert: TEST_CERTIFICATE, ...options };
    const server = tls.createServer(own, (socket) => {
      socket.on('error', () => {}).on('data', (data) => answer(socket, data));
    });
    return server.on('tlsClientError', () => {});
  };
}

function says(bytes: string | Buffer): Answer {
  return (socket) => socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
}

function thenEnds(bytes: string): Answer {
  return (socket) => socket.end(bytes, 'latin1');
}

function thenResets(bytes: string): Answer {
  return (socket) => socket.write(bytes, 'latin1', () => setImmediate(() => socket.resetAndDestroy()));
}

/** `start`, then `chunk` again and again, as fast as it is read or every so many milliseconds. */
function goesOn(start: string, chunk: string, everyMs?: number): Answer {
  return (socket) => {
    socket.removeAllListeners('data').resume().write(start, 'latin1');
    const bytes = Buffer.from(chunk, 'latin1');
    const more = () => {
      while (!socket.destroyed && socket.write(bytes));
    };
    if (everyMs === undefined) {
      socket.on('drain', more);
      more();
    } else {
      const timer = setInterval(() => socket.write(bytes), everyMs);
      socket.once('close', () => clearInterval(timer));
    }
  };
}

const late: Array<[string, Answer, string]> = [
  ['never answers', () => {}, 'headers_timeout'],
  ['sends a header line every 20 ms', goesOn(HEAD, 'x: y\r\n', 20), 'headers_timeout'],
  ['sends its header a byte a second', goesOn('', 'H', 1000), 'headers_timeout'],
  ['sends its body a byte a second', goesOn(`${HEAD}content-length: 99\r\n\r\n`, 'x', 1000), 'body_timeout'],
  [
    'sends chunks of a byte every 20 ms',
    goesOn(`${HEAD}transfer-encoding: chunked\r\n\r\n`, '1\r\nx\r\n', 20),
    'body_timeout',
  ],
  ['promises a body of 8 PiB', says(`${HEAD}content-length: 9007199254740991\r\n\r\nx`), 'body_timeout'],
];

const endless: Array<[string, Answer, AttemptOutcome, string | null]> = [
  ['sends a body without end', goesOn(`${HEAD}\r\n`, 'x'.repeat(65_536)), 'delivered', null],
  [
    'sends chunks without end',
    goesOn(`${HEAD}transfer-encoding: chunked\r\n\r\n`, '1\r\nx\r\n'.repeat(10_000)),
    'delivered',
    null,
  ],
  [
    'sends an error page without end',
    goesOn('HTTP/1.1 500 Oops\r\n\r\n', 'x'.repeat(65_536)),
    'rejected',
    'status_500',
  ],
  ['sends a gzip bomb', (socket) => socket.write((bomb ??= gzipBomb())), 'delivered', null],
  ['sends 10,000 headers', says(`${HEAD}${'x: y\r\n'.repeat(10_000)}\r\n`), 'protocol', 'headers_too_large'],
  [
    'sends 300 headers',
    says(`${HEAD}${'x: y\r\n'.repeat(300)}${'x: '.padEnd(2000)}\r\n\r\n`),
    'protocol',
    'headers_too_large',
  ],
  ['sends a header of 1 MB', says(`${HEAD}x: ${'y'.repeat(1_000_000)}\r\n\r\n`), 'protocol', 'headers_too_large'],
  ['sends a header name of 1 MB', says(`${HEAD}${'y'.repeat(1_000_000)}: x\r\n\r\n`), 'protocol', 'headers_too_large'],
  ['sends a header without end', goesOn(`${HEAD}x: `, 'y'.repeat(65_536)), 'protocol', 'headers_too_large'],
  [
    'sends trailers without end',
    goesOn(`${HEAD}transfer-encoding: chunked\r\n\r\n0\r\n`, 'x: y\r\n'.repeat(1000)),
    'protocol',
    'headers_too_large',
  ],
  [
    'sends interim responses without end',
    goesOn('', 'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(500)),
    'protocol',
    'headers_too_large',
  ],
  ['sends a reason phrase without end', goesOn('HTTP/1.1 200 ', 'y'.repeat(65_536)), 'protocol', 'headers_too_large'],
  ['sends empty lines without end', goesOn('', '\r\n'.repeat(8192)), 'protocol', 'headers_too_large'],
  [
    'sends 8 KB of extensions with each chunk',
    goesOn(`${HEAD}transfer-encoding: chunked\r\n\r\n`, `1;x=${'y'.repeat(8000)}\r\nx\r\n`),
    'protocol',
    'response_too_large',
  ],
  [
    'sends a chunk extension without end',
    goesOn(`${HEAD}transfer-encoding: chunked\r\n\r\n5;x=`, 'y'.repeat(65_536)),
    'protocol',
    'response_too_large',
  ],
  [
    'redirects to itself',
    says('HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n'),
    'rejected',
    'redirect_not_followed',
  ],
];

const broken: Array<[string, () => net.Server, string[]]> = [
  [
    'resets after accepting',
    accepting((socket) => void setImmediate(() => socket.resetAndDestroy())),
    ['connection_reset'],
  ],
  ['hangs up after accepting', accepting((socket) => socket.end()), ['connection_closed', 'connection_reset']],
  ['resets after the request', plain((socket) => socket.resetAndDestroy()), ['connection_reset']],
  ['hangs up after the request', plain(thenEnds('')), ['connection_closed']],
  ['resets in its header', plain(thenResets('HTTP/1.1 200 OK\r\ncontent-le')), ['connection_reset']],
  ['hangs up in its header', plain(thenEnds('HTTP/1.1 200 OK\r\ncontent-le')), ['connection_closed']],
  ['resets in its body', plain(thenResets(`${HEAD}content-length: 9\r\n\r\nhalf`)), ['connection_reset']],
  ['hangs up in its body', plain(thenEnds(`${HEAD}content-length: 9\r\n\r\nhalf`)), ['connection_closed']],
  ['hangs up in a chunk', plain(thenEnds(`${HEAD}transfer-encoding: chunked\r\n\r\n9\r\nhalf`)), ['connection_closed']],
  ['resets in its body, over TLS', secureThenResets, ['connection_reset']],
  ['hangs up in its body, over TLS', secure(thenEnds(`${HEAD}content-length: 9\r\n\r\nhalf`)), ['connection_closed']],
];

const OLD = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
const RSA_ONLY = { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' } as const; // the certificate's key is an EC key

/** Host, server, code. */
const handshakes: Array<[string, string, () => net.Server, string]> = [
  ['says nothing in the handshake', 'receiver.test', accepting((socket) => void socket.resume()), 'tls_timeout'],
  [
    'speaks HTTP in the handshake',
    'receiver.test',
    plain(thenEnds('HTTP/1.1 400 Bad Request\r\n\r\n')),
    'tls_handshake_failed',
  ],
  ['hangs up in the handshake', 'receiver.test', plain(thenEnds('')), 'tls_handshake_failed'],
  ['resets in the handshake', 'receiver.test', plain((socket) => socket.resetAndDestroy()), 'tls_handshake_failed'],
  [
    'ends the handshake with an alert',
    'receiver.test',
    plain(says('\x15\x03\x03\x00\x02\x02\x50')),
    'tls_handshake_failed',
  ],
  [
    'sends a server hello without end',
    'receiver.test',
    plain(goesOn('', `\x16\x03\x03\x40\x00\x02\xff\xff\xff${'x'.repeat(16_380)}`)),
    'tls_handshake_failed',
  ],
  ['speaks TLS 1.1 only', 'receiver.test', secure(says(EMPTY), OLD), 'tls_handshake_failed'],
  ['shares no cipher', 'receiver.test', secure(says(EMPTY), RSA_ONLY), 'tls_handshake_failed'],
  [
    'has a certificate of an unknown authority',
    'receiver.test',
    secure(says(EMPTY), { key: OTHER_KEY, cert: OTHER_CERTIFICATE }),
    'tls_certificate_invalid',
  ],
  [
    'has an expired certificate',
    'receiver.test',
    secure(says(EMPTY), { cert: EXPIRED_CERTIFICATE }),
    'tls_certificate_invalid',
  ],
  ['has a certificate for another name', 'other.test', secure(says(EMPTY)), 'tls_certificate_invalid'],
];

const strange: Array<[string, Answer, AttemptOutcome, string | null]> = [
  ['speaks HTTP/1.0', thenEnds('HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok'), 'delivered', null],
  ['speaks HTTP/1.0, its body ended by the connection', thenEnds('HTTP/1.0 200 OK\r\n\r\nok'), 'delivered', null],
  ['speaks HTTP/0.9', thenEnds('<html>ok</html>'), 'protocol', 'invalid_http'],
  ['speaks HTTP/2', says('\x00\x00\x00\x04\x00\x00\x00\x00\x00'), 'protocol', 'invalid_http'],
  ['speaks SSH', says('SSH-2.0-OpenSSH_9.9\r\n'), 'protocol', 'invalid_http'],
  [
    'sends a chunk size that is none',
    says(`${HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n`),
    'protocol',
    'invalid_http',
  ],
  [
    'sends a chunk size beyond 64 bits',
    says(`${HEAD}transfer-encoding: chunked\r\n\r\n${'f'.repeat(17)}\r\n`),
    'protocol',
    'invalid_http',
  ],
  [
    'sends a chunk longer than its size',
    says(`${HEAD}transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n`),
    'protocol',
    'invalid_http',
  ],
  [
    'sends a length beyond 64 bits',
    says(`${HEAD}content-length: ${'9'.repeat(30)}\r\n\r\n`),
    'protocol',
    'invalid_http',
  ],
  ['sends a negative length', says(`${HEAD}content-length: -1\r\n\r\n`), 'protocol', 'invalid_http'],
  ['sends two lengths', says(`${HEAD}content-length: 1\r\ncontent-length: 2\r\n\r\nab`), 'protocol', 'invalid_http'],
  [
    'sends length and chunks',
    says(`${HEAD}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
    'protocol',
    'invalid_http',
  ],
  [
    'switches protocols unasked',
    says('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
    'protocol',
    'invalid_http',
  ],
  [
    'splits a header with a bare CR',
    says(`${HEAD}x: a\rset-cookie: b\r\ncontent-length: 0\r\n\r\n`),
    'protocol',
    'invalid_http',
  ],
  ['has NUL in a header', says(`${HEAD}x: a\0b\r\ncontent-length: 0\r\n\r\n`), 'protocol', 'invalid_http'],
  ['has NUL in its reason phrase', says('HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n'), 'delivered', null],
  ['has invalid UTF-8 in a header', says(`${HEAD}x: a\xff\xc0\x80b\r\ncontent-length: 0\r\n\r\n`), 'delivered', null],
  [
    'has NUL and invalid UTF-8 in its body',
    says(`${HEAD}content-length: 5\r\n\r\n\0\xff\xc0\x80\0`),
    'delivered',
    null,
  ],
];

const early: Array<[string, Answer, AttemptOutcome, Array<string | null>]> = [
  ['answers before it has read the body', (socket) => void socket.pause().write(EMPTY), 'delivered', [null]],
  [
    'refuses before it has read the body, and hangs up',
    (socket) => void socket.pause().end('HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'),
    'rejected',
    ['status_413'],
  ],
  ['never reads the body', (socket) => void socket.pause(), 'timeout', ['headers_timeout']],
];

const dying: Array<[string, 'at once' | 'once closed', Answer, string | null]> = [
  ['closes the connection after its answer, unannounced', 'once closed', (socket) => socket.end(EMPTY), null],
  ['resets the idle connection', 'once closed', thenResets(EMPTY), null],
  ['answers once and then hangs up', 'at once', once((socket) => socket.end()), 'connection_closed'],
  ['answers once and then resets', 'at once', once((socket) => socket.resetAndDestroy()), 'connection_reset'],
  [
    'sends an answer that nobody asked for',
    'at once',
    says(`${EMPTY}HTTP/1.1 500 Fake\r\ncontent-length: 0\r\n\r\n`),
    null,
  ],
];

function secureThenResets(): net.Server {
  return net.createServer((socket) => {
    const secured = new tls.TLSSocket(socket, { isServer: true, key: TEST_KEY, cert: TEST_CERTIFICATE });
    secured
      .on('error', () => {})
      .once('data', () => {
        secured.write(`${HEAD}content-length: 9\r\n\r\nhalf`, () => setImmediate(() => socket.resetAndDestroy()));
      });
  });
}

/** The first request is answered; the next one of the same connection meets `then`. */
function once(then: (socket: net.Socket) => void): Answer {
  const answered = new WeakSet<net.Socket>();
  return (socket) => {
    if (answered.has(socket)) then(socket);
    else socket.write(EMPTY);
    answered.add(socket);
  };
}

let bomb: Buffer | undefined;
/** 64 MB in 64 KB; made when it is asked for, by who sends it. */
function gzipBomb(): Buffer {
  const body = gzipSync(Buffer.alloc(67_108_864));
  return Buffer.concat([Buffer.from(`${HEAD}content-encoding: gzip\r\ncontent-length: ${body.length}\r\n\r\n`), body]);
}

export const HOSTILE_RECEIVERS: readonly HostileReceiver[] = [
  ...late.map(([name, answer, code]) => row(name, plain(answer), 'timeout', [code])),
  ...endless.map(([name, answer, outcome, code]) => row(name, plain(answer), outcome, [code])),
  ...broken.map(([name, server, codes]) => ({
    ...row(name, server, 'network', codes),
    ...(name.endsWith('TLS') && { secureHost: 'receiver.test' }),
  })),
  ...handshakes.map(([name, secureHost, server, code]) => ({
    ...row(name, server, code === 'tls_timeout' ? 'timeout' : 'tls', [code]),
    secureHost,
  })),
  ...strange.map(([name, answer, outcome, code]) => row(name, plain(answer), outcome, [code])),
  ...early.map(([name, answer, outcome, codes]) => ({ ...row(name, plain(answer), outcome, codes), bodyBytes: BIG })),
  ...dying.map(([name, second, answer, code]) => ({
    ...row(name, plain(answer), code === null ? 'delivered' : 'network', [code]),
    second,
  })),
];

function row(
  name: string,
  server: () => net.Server,
  outcome: AttemptOutcome,
  errorCodes: ReadonlyArray<string | null>,
): HostileReceiver {
  return { name, server, outcome, errorCodes };
}
