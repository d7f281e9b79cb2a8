import dgram from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import type { Resolve } from '#egress/resolve.ts';

/** What a name has when it is asked for the `nth` time (from 0), the question of either type counted by itself. */
export type Zone = Readonly<Record<string, (nth: number) => readonly string[] | 'NXDOMAIN' | 'SERVFAIL' | 'silence'>>;

export interface NameServer {
  /** Asks this server, and nobody else, for A and AAAA records. */
  readonly resolve: Resolve;
  /** The questions so far: `A name`, `AAAA name`. */
  readonly questions: readonly string[];
}

const TYPES: Record<number, string> = { 1: 'A', 28: 'AAAA' };
const RCODES = { SERVFAIL: 2, NXDOMAIN: 3 } as const;

/** The question of a query (RFC 1035 section 4.1.2): its name, its type, and where it ends. */
function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

/** A record of the name at `pointer`, good for no second. */
function record(pointer: number, type: number, data: Uint8Array): Buffer {
  const head = Buffer.from([0xc0 | (pointer >> 8), pointer & 255, 0, type, 0, 1, 0, 0, 0, 0, 0, data.length]);
  return Buffer.concat([head, data]);
}

function nameBytes(name: string): Buffer {
  return Buffer.concat([
    ...name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.alloc(1),
  ]);
}

/** `alias:<name>` first makes the rest the records of that name (CNAME), in the same answer. */
function recordsOf(values: readonly string[], type: number, end: number): Buffer[] {
  const records: Buffer[] = [];
  let pointer = 12;
  let at = end;
  for (const value of values) {
    if (value.startsWith('alias:')) {
      const alias = record(pointer, 5, nameBytes(value.slice('alias:'.length)));
      records.push(alias);
      pointer = at + 12;
      at += alias.length;
    } else {
      const { bytes } = parseCidr(value)!;
      if ((bytes.length === 4) === (type === 1)) records.push(record(pointer, type, bytes));
    }
  }
  return records;
}

/** A name server on 127.0.0.1 that answers what the test wants, as one that belongs to an attacker would. */
export async function startNameServer(zone: Zone): Promise<NameServer> {
  const questions: string[] = [];
  const server = dgram.createSocket('udp4');
  server.on('message', (query, from) => {
    const { name, type, end } = questionOf(query);
    const question = `${TYPES[type]} ${name}`;
    const nth = questions.filter((earlier) => earlier === question).length;
    questions.push(question);
    const values = zone[name]?.(nth) ?? 'NXDOMAIN';
    if (values === 'silence') return;
    const records = typeof values === 'string' ? [] : recordsOf(values, type, end);
    const header = Buffer.from([query[0]!, query[1]!, 0x85, 0x80, 0, 1, 0, records.length, 0, 0, 0, 0]);
    if (typeof values === 'string') header[3]! |= RCODES[values];
    server.send(Buffer.concat([header, query.subarray(12, end), ...records]), from.port, from.address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const resolver = new Resolver({ tries: 1, timeout: 5000 });
  resolver.setServers([`127.0.0.1:${server.address().port}`]);
  return { resolve: (host) => resolveBoth(resolver, host), questions };
}

async function resolveBoth(resolver: Resolver, host: string): Promise<string[]> {
  const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
  const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  if (found.length === 0 && answers[0].status === 'rejected') throw answers[0].reason;
  return found;
}
