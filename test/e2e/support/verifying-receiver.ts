import { createPublicKey, type JsonWebKey, verify as verifyWith } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { expect, onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';

/** One thing that a receiver may know: a shared secret, or a public key from the key set. Answers whether it fits. */
export type Verifier = (headers: IncomingHttpHeaders, body: Buffer) => boolean;

export function knows(secret: string): Verifier {
  return (headers, body) => {
    try {
      new Webhook(secret).verify(body, headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  };
}

export function knowsKey(jwk: JsonWebKey): Verifier {
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  return (headers, body) => {
    const head = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.`;
    const given = String(headers['webhook-signature']).split(' ');
    return given
      .filter((text) => text.startsWith('v1a,'))
      .some((text) =>
        verifyWith(null, Buffer.concat([Buffer.from(head), body]), key, Buffer.from(text.slice(4), 'base64')),
      );
  };
}

export interface VerifyingReceiver {
  readonly url: string;
  /** What is known from now on; a callback that none of them fits is answered 401. */
  know(...verifiers: Verifier[]): void;
  /** Waits for so many more callbacks that verify, each with so many signatures. */
  takes(count: number, signatures: number): Promise<void>;
  /** Headers of those that did not. */
  readonly refused: readonly IncomingHttpHeaders[];
}

/** A receiver that checks every callback as it comes in, with what it knows at that moment. Gone with the test. */
export async function startVerifyingReceiver(): Promise<VerifyingReceiver> {
  let known: readonly Verifier[] = [];
  const refused: IncomingHttpHeaders[] = [];
  const taken = new Map<number, number>();
  const check = async (request: IncomingMessage): Promise<number> => {
    const body = Buffer.concat((await request.toArray()) as Buffer[]);
    const { headers } = request;
    if (!known.some((fits) => fits(headers, body))) {
      refused.push(headers);
      return 401;
    }
    const signatures = String(headers['webhook-signature']).split(' ').length;
    taken.set(signatures, (taken.get(signatures) ?? 0) + 1);
    return 204;
  };
  const server = createServer((request, response) => {
    void check(request).then((status) => response.writeHead(status).end());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/callback`,
    know: (...verifiers) => void (known = verifiers),
    takes: async (count, signatures) => {
      const wanted = (taken.get(signatures) ?? 0) + count;
      const seen = () => taken.get(signatures) ?? 0;
      await eventually(() => expect(seen(), JSON.stringify(refused[0])).toBeGreaterThanOrEqual(wanted), 20_000);
    },
    refused,
  };
}
