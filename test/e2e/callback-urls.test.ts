import { describe, expect, it } from 'vitest';
import type { CallbackUrlRefusal } from '#domain/callback-url.ts';
import { useDatabase } from '../support/database.ts';
import { client } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const key = 'rbk_for-callback-urls';
// As in production: nothing private may be reached.
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_EGRESS_ALLOW: undefined }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const REFUSED: ReadonlyArray<readonly [url: string, reason: CallbackUrlRefusal]> = [
  ['/callback', 'malformed'],
  ['example.com/callback', 'malformed'],
  ['https://', 'malformed'],
  ['https://exa mple.com/', 'malformed'],
  ['https://example.com:99999/', 'malformed'],
  ['https://999.1.1.1/', 'malformed'],
  ['https://[::1', 'malformed'],
  ['https://\0.example.com/', 'malformed'],
  ['ftp://example.com/', 'scheme_forbidden'],
  ['file:///etc/passwd', 'scheme_forbidden'],
  ['javascript:alert(1)', 'scheme_forbidden'],
  ['http://example.com/', 'scheme_forbidden'],
  ['http://8.8.8.8/', 'scheme_forbidden'],
  ['https://user@example.com/', 'userinfo_forbidden'],
  ['https://user:secret@example.com/', 'userinfo_forbidden'],
  ['https://example.com@127.0.0.1/', 'userinfo_forbidden'],
  ['https://example.com:22/', 'port_forbidden'],
  ['https://example.com:0/', 'port_forbidden'],
  ['https://8.8.8.8:6379/', 'port_forbidden'],
  [`https://example.com/${'x'.repeat(2000)}`, 'too_long'],
  ['https://127.0.0.1/', 'address_forbidden'],
  ['https://127.1/', 'address_forbidden'],
  ['https://2130706433/', 'address_forbidden'],
  ['https://0x7f000001/', 'address_forbidden'],
  ['https://0177.0.0.1/', 'address_forbidden'],
  ['https://%31%32%37.0.0.1/', 'address_forbidden'],
  ['https://１２７.０.０.１/', 'address_forbidden'],
  ['https://127.0.0.1./', 'address_forbidden'],
  ['https:\\\\127.0.0.1\\', 'address_forbidden'],
  ['https://localhost/', 'address_forbidden'],
  ['https://0.0.0.0/', 'address_forbidden'],
  ['https://10.0.0.1/', 'address_forbidden'],
  ['https://169.254.169.254/latest/meta-data/', 'address_forbidden'],
  ['https://[::1]/', 'address_forbidden'],
  ['https://[::ffff:127.0.0.1]/', 'address_forbidden'],
  ['https://[::ffff:7f00:1]/', 'address_forbidden'],
  ['https://[64:ff9b::7f00:1]/', 'address_forbidden'],
  ['https://[2002:7f00:1::]/', 'address_forbidden'],
  ['https://[fe80::1]/', 'address_forbidden'],
  ['https://[fd00::1]/', 'address_forbidden'],
];

describe('a callback URL', () => {
  it.each(REFUSED)('is refused, with the reason and where it stands: %s', async (url, reason) => {
    const submitted = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1, callback: { url } });
    const document = expectProblem(submitted, 'invalid_callback_url');
    expect(document).toMatchObject({ reason, errors: [{ path: '/callback/url', message: document.detail }] });

    const registered = expectProblem(await ask('POST', '/v1/endpoints', { url }), 'invalid_callback_url');
    expect(registered).toMatchObject({ reason, detail: document.detail, errors: [{ path: '/url' }] });
  });

  it('is refused without its query and its password being told to anybody', async () => {
    const answers = [
      await ask('POST', '/v1/endpoints', { url: 'https://10.0.0.1/?token=hush' }),
      await ask('POST', '/v1/endpoints', { url: 'https://me:hush@example.com/' }),
    ];
    for (const answer of answers) expect(expectProblem(answer, 'invalid_callback_url').detail).not.toContain('hush');
    expect(JSON.stringify(service.main.logs)).not.toContain('hush');
  });

  it('is accepted when its name does not resolve now: DNS may be at fault for a moment', async () => {
    const answer = await ask('POST', '/v1/endpoints', { url: 'https://no-such-host.invalid/callback' });
    expect(answer.status, answer.text).toBe(201);
  });

  it('is kept as the URL parser writes it, and found again however it is spelt', async () => {
    const made = await ask('POST', '/v1/endpoints', { url: 'HTTPS://No-Such.INVALID:443/a/../b?x=1#part' });
    expect(made.json.url).toBe('https://no-such.invalid/b?x=1');
    const again = await ask('POST', '/v1/endpoints', { url: 'https://no-such.invalid/b?x=1' });
    expect({ status: again.status, id: again.json.id }).toEqual({ status: 200, id: made.json.id });
  });

  it('of an address that is public is accepted with https', async () => {
    expect((await ask('POST', '/v1/endpoints', { url: 'https://8.8.8.8:8443/' })).status).toBe(201);
  });
});
