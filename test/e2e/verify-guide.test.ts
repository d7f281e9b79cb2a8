import { expect, it } from 'vitest';
import { publicKeyOf, sign, signerOf } from '#domain/signature.ts';
import { formatSigningSecret, newSigningSecret, parseSigningSecret } from '#domain/signing-secret.ts';
import { useDatabase } from '../support/database.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit } from './support/api.ts';
import { type Asked, LANGUAGES, missingProgram, prepareSnippet } from './support/guide-verifiers.ts';
import { serviceEnv, useService } from './support/main-process.ts';

/** The snippets of docs/guides/verify-a-callback.md, cut out of it and asked about real callbacks. */

const database = useDatabase();
const key = 'rbk_for-the-guide';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

interface Case extends Asked {
  readonly what: string;
  readonly verifies: boolean;
}

const STRANGER = formatSigningSecret(newSigningSecret('v1'));
const STRANGERS_KEY = JSON.stringify({
  kty: 'OKP',
  crv: 'Ed25519',
  x: Buffer.from(publicKeyOf(newSigningSecret('v1a').key)).toString('base64url'),
});

type Sent = Pick<Asked, 'headers' | 'body'>;

/** Callbacks as a receiver got them: before, during and after a rotation, and what it may know of each time. */
interface Rotated {
  readonly before: Sent;
  readonly during: Sent;
  readonly after: Sent;
  readonly old: string;
  readonly new: string;
  /** What signs with the new one, for callbacks that the service would not send. */
  readonly resign: (headers: Record<string, string>, body: Uint8Array) => Sent;
}

async function rotate(scheme: 'v1' | 'v1a'): Promise<Rotated> {
  const receiver = await startReceiver();
  const { json: endpoint } = await ask('POST', '/v1/endpoints', { url: receiver.url });
  const turn = async (grace: number) => {
    const { json } = await ask('POST', `/v1/endpoints/${endpoint.id}/rotate-secret`, { scheme, grace_ms: grace });
    const { json: set } = await ask('GET', `/.well-known/jwks.json?endpoint_id=${endpoint.id}`);
    const secret = json.signing_secret as string;
    return { secret, known: scheme === 'v1' ? secret : JSON.stringify(set.keys[0]) };
  };
  const callback = async (): Promise<Sent> => {
    const input = { text: 'Zoë 🚚', quote: '"\\' };
    await submit(ask, { type: 'ringback.echo', input, callback: { endpoint_id: endpoint.id } });
    const { headers, body } = await receiver.next();
    return { headers: headers as Record<string, string>, body };
  };
  const first = await turn(0);
  const before = await callback();
  const second = await turn(600_000);
  const during = await callback();
  await database.sql`UPDATE ringback.endpoint_secrets SET expires_at = now() WHERE expires_at IS NOT NULL`;
  const after = await callback();
  const parsed = parseSigningSecret(second.secret);
  if (!parsed.ok) throw new Error(parsed.fault);
  const signer = signerOf(scheme, parsed.secret.key);
  const resign: Rotated['resign'] = (headers, body) => {
    const signature = sign(signer, headers['webhook-id']!, Number(headers['webhook-timestamp']), body);
    return { headers: { ...headers, 'webhook-signature': signature }, body };
  };
  return { before, during, after, old: first.known, new: second.known, resign };
}

function casesOf({ before, during, after, old, new: latest, resign }: Rotated, stranger: string): Case[] {
  const yes = (what: string, sent: Sent, ...known: string[]): Case => ({ what, ...sent, known, verifies: true });
  const no = (what: string, sent: Sent, ...known: string[]): Case => ({ what, ...sent, known, verifies: false });
  const without = (name: string): Sent => ({ ...after, headers: { ...after.headers, [name]: '' } });
  const withHeader = (name: string, value: string): Sent => ({
    ...after,
    headers: { ...after.headers, [name]: value },
  });
  const at = (seconds: number) => {
    const timestamp = String(Math.floor(Date.now() / 1000) + seconds);
    return resign({ ...after.headers, 'webhook-timestamp': timestamp }, after.body);
  };
  const body = (bytes: Uint8Array): Sent => ({ ...after, body: bytes });
  const signature = after.headers['webhook-signature']!;
  const text = after.body.toString();
  return [
    yes('as it came', after, latest),
    yes('with another secret known', after, stranger, latest),
    no('with another secret', after, stranger),
    no('with no secret', after),
    yes('before the rotation, the old', before, old),
    no('before the rotation, the new', before, latest),
    yes('during the rotation, the old', during, old),
    yes('during the rotation, the new', during, latest),
    yes('during the rotation, both', during, old, latest),
    no('during the rotation, neither', during, stranger),
    no('after the rotation, the old', after, old),
    yes('after the rotation, both', after, old, latest),
    no('another letter', body(Buffer.from(text.replace('Zoë', 'Zoe'))), latest),
    no('a blank more', body(Buffer.from(`${text} `)), latest),
    no('serialised again', body(Buffer.from(JSON.stringify(JSON.parse(text), null, 1))), latest),
    no('no body', body(new Uint8Array()), latest),
    yes('signed without a body', resign(after.headers, new Uint8Array()), latest),
    yes('signed bytes that are no text', resign(after.headers, Buffer.from([0, 255, 128, 10, 9])), latest),
    no('five and a half minutes old', at(-330), latest),
    no('five and a half minutes early', at(330), latest),
    yes('four minutes and a half old', at(-270), latest),
    yes('four minutes and a half early', at(270), latest),
    no('another time', withHeader('webhook-timestamp', String(Number(after.headers['webhook-timestamp']) + 1)), latest),
    no('a time that is none', withHeader('webhook-timestamp', 'now'), latest),
    no('a time beyond all numbers', withHeader('webhook-timestamp', '9'.repeat(30)), latest),
    no('a time before all', withHeader('webhook-timestamp', '-9223372036854775808'), latest),
    no('another id', withHeader('webhook-id', 'evt_x'), latest),
    no('no id', without('webhook-id'), latest),
    no('no time', without('webhook-timestamp'), latest),
    no('no signature', without('webhook-signature'), latest),
    no('a signature cut short', withHeader('webhook-signature', signature.slice(0, -4)), latest),
    no('an empty signature', withHeader('webhook-signature', signature.split(',')[0]!.concat(',')), latest),
    no('another version', withHeader('webhook-signature', signature.replace(/^\w+,/, 'v9,')), latest),
    no('a signature that is no text of ours', withHeader('webhook-signature', 'v1,Zoë🚚 v1a,= v1 ,'), latest),
    yes('among others', withHeader('webhook-signature', `v1,AAAA v1a,AAAA v9,x ${signature}`), latest),
  ];
}

it.for(Object.entries(LANGUAGES))(
  '%s: what the guide says verifies what is genuine, and nothing else',
  { timeout: 300_000 },
  async ([, language], { skip }) => {
    const missing = missingProgram(language);
    skip(missing !== undefined, `${missing} is not installed`);
    const [scheme, stranger] =
      language.takes === 'keys' ? (['v1a', STRANGERS_KEY] as const) : (['v1', STRANGER] as const);
    // Translated first: some cases are seconds away from being too old.
    const verify = await prepareSnippet(language);
    const cases = casesOf(await rotate(scheme), stranger);
    const said = await verify(cases);
    expect(cases.map(({ what }, index) => [what, said[index]])).toEqual(
      cases.map(({ what, verifies }) => [what, verifies]),
    );
  },
);
