import { describe, expect, test } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import { judgeTarget, judgeUrl, MAX_URL_LENGTH, type CallbackUrl, type EgressPolicy } from '#domain/callback-url.ts';

const STRICT: EgressPolicy = { allow: [], allowHttp: false, ports: [443, 8443] };
const LOOPBACK: EgressPolicy = { ...STRICT, allow: [parseCidr('127.0.0.0/8')!, parseCidr('::1')!] };
const HTTP: EgressPolicy = { ...STRICT, allowHttp: true };

function reasonOf(text: string, policy: EgressPolicy): string {
  const verdict = judgeUrl(text, policy);
  return verdict.ok ? 'ok' : verdict.reason;
}

function urlOf(text: string, policy: EgressPolicy): CallbackUrl {
  const verdict = judgeUrl(text, policy);
  return verdict.ok ? verdict.url : expect.fail(verdict.detail);
}

function targetOf(text: string, addresses: string[], policy: EgressPolicy): string {
  const verdict = judgeTarget(urlOf(text, policy), addresses, policy);
  return verdict.ok ? 'ok' : verdict.reason;
}

describe('a callback URL, before its name is resolved', () => {
  test.each([
    ['https://example.com/hook', 'ok'],
    ['https://example.com:8443/hook', 'ok'],
    ['HTTPS://EXAMPLE.com', 'ok'],
    ['https://bücher.example/', 'ok'],
    ['https://1.1.1.1/', 'ok'],
    ['https://[2606:4700:4700::1111]:8443/', 'ok'],
    ['https://localhost/', 'ok'], // judged by what it resolves to
    ['', 'malformed'],
    ['example.com/hook', 'malformed'],
    ['//example.com/hook', 'malformed'],
    ['https://', 'malformed'],
    ['https://exa mple.com/', 'malformed'],
    ['https://example.com:99999/', 'malformed'],
    ['https://[fe80::1%25eth0]/', 'malformed'],
    ['https://256.1.1.1/', 'malformed'],
    ['http://example.com/', 'scheme_forbidden'],
    ['ftp://example.com/', 'scheme_forbidden'],
    ['file:///etc/passwd', 'scheme_forbidden'],
    ['gopher://127.0.0.1:6379/_x', 'scheme_forbidden'],
    ['javascript:alert(1)', 'scheme_forbidden'],
    ['https://user@example.com/', 'userinfo_forbidden'],
    ['https://:secret@example.com/', 'userinfo_forbidden'],
    ['https://example.com:secret@10.0.0.1/', 'userinfo_forbidden'],
    ['https://example.com:80/', 'port_forbidden'],
    ['https://example.com:22/', 'port_forbidden'],
    ['https://example.com:0/', 'port_forbidden'],
    ['https://1.1.1.1:6379/', 'port_forbidden'],
    ['http://1.1.1.1/', 'scheme_forbidden'],
  ])('%j: %s', (text, expected) => {
    expect(reasonOf(text, STRICT)).toBe(expected);
  });

  test.each([
    'https://127.0.0.1/',
    'https://127.1/',
    'https://0x7f.1/',
    'https://0X7F.0.0.1/',
    'https://0177.0.0.1/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://017700000001/',
    'https://127.0.0.1./',
    'https://１２７.0.0.1/',
    'https://①②⑦.0.0.1/',
    'https://127。0。0。1/',
    'https://%31%32%37.0.0.1/',
    'https://12\t7.0.0.1/',
    'https:\\\\127.0.0.1\\x',
    'https:127.0.0.1',
    'https://0/',
    'https://[::1]/',
    'https://[0:0:0:0:0:0:0:1]/',
    'https://[::]/',
    'https://[::ffff:127.0.0.1]/',
    'https://[::ffff:7f00:1]/',
    'https://[::127.0.0.1]/',
    'https://[64:ff9b::127.0.0.1]/',
    'https://[2002:7f00:1::]/',
    'https://169.254.169.254/latest/meta-data',
    'https://[fd00:ec2::254]/',
  ])('%j hides a forbidden address', (text) => {
    expect(reasonOf(text, STRICT)).toBe('address_forbidden');
    expect(reasonOf(text, HTTP)).toBe('address_forbidden');
  });

  test('is normalised, without its fragment', () => {
    const url = urlOf(' https://EXAMPLE.com:443/a/../b?q=ü#secret ', STRICT);
    expect(url).toEqual({
      href: 'https://example.com/b?q=%C3%BC',
      origin: 'https://example.com',
      secure: true,
      host: 'example.com',
      port: 443,
      path: '/b?q=%C3%BC',
      isAddressLiteral: false,
    });
  });

  test('knows an address literal and its port', () => {
    expect(urlOf('http://0x7f.1:3000/?', LOOPBACK)).toMatchObject({
      host: '127.0.0.1',
      port: 3000,
      path: '/?',
      isAddressLiteral: true,
    });
    expect(urlOf('http://[::1]', LOOPBACK)).toMatchObject({ host: '::1', port: 80, path: '/', isAddressLiteral: true });
  });

  test('may have 2,000 characters once normalised', () => {
    const longest = `https://example.com/${'x'.repeat(MAX_URL_LENGTH - 'https://example.com/'.length)}`;
    expect(reasonOf(longest, STRICT)).toBe('ok');
    expect(reasonOf(`${longest}#fragments do not count`, STRICT)).toBe('ok');
    expect(reasonOf(`${longest}x`, STRICT)).toBe('too_long');
    expect(reasonOf(`https://example.com/${'ü'.repeat(400)}`, STRICT)).toBe('too_long');
  });

  test('never has its query quoted in a refusal', () => {
    for (const text of [
      'http://example.com/?token=s3cret',
      'https://10.0.0.1/?token=s3cret',
      'ftp://h/?token=s3cret',
    ]) {
      const verdict = judgeUrl(text, STRICT);
      expect(verdict).toMatchObject({ ok: false });
      expect(JSON.stringify(verdict)).not.toContain('s3cret');
    }
  });
});

describe('scheme and port', () => {
  test('are free for an allowed address', () => {
    expect(reasonOf('http://127.0.0.1:3000/', LOOPBACK)).toBe('ok');
    expect(reasonOf('http://[::1]:3000/', LOOPBACK)).toBe('ok');
    expect(reasonOf('http://[::ffff:127.0.0.1]:3000/', LOOPBACK)).toBe('ok');
    expect(reasonOf('http://10.0.0.1:3000/', LOOPBACK)).toBe('address_forbidden');
    expect(reasonOf('http://1.1.1.1/', LOOPBACK)).toBe('scheme_forbidden');
    expect(reasonOf('https://1.1.1.1:3000/', LOOPBACK)).toBe('port_forbidden');
  });

  test('of plain http are 80 and the permitted ports once http is allowed', () => {
    expect(reasonOf('http://example.com/', HTTP)).toBe('ok');
    expect(reasonOf('http://example.com:8443/', HTTP)).toBe('ok');
    expect(reasonOf('http://example.com:8080/', HTTP)).toBe('port_forbidden');
  });

  test('of a name wait for its addresses when some private range is allowed', () => {
    expect(targetOf('http://api.internal:3000/', ['127.0.0.1'], LOOPBACK)).toBe('ok');
    expect(targetOf('http://api.internal:3000/', ['1.1.1.1'], LOOPBACK)).toBe('scheme_forbidden');
    expect(targetOf('https://api.internal:3000/', ['127.0.0.1', '1.1.1.1'], LOOPBACK)).toBe('port_forbidden');
    expect(targetOf('https://example.com/', ['1.1.1.1', '2606:4700::1'], LOOPBACK)).toBe('ok');
  });
});

describe('what a name resolves to', () => {
  test.each([
    ['public only', ['1.1.1.1', '2606:4700::1111'], 'ok'],
    ['a private one first', ['10.0.0.1', '1.1.1.1'], 'address_forbidden'],
    ['a private one last', ['1.1.1.1', '2606:4700::1111', '169.254.169.254'], 'address_forbidden'],
    ['a mapped one', ['1.1.1.1', '::ffff:10.0.0.1'], 'address_forbidden'],
    ['a scoped one', ['fe80::1%eth0'], 'address_forbidden'],
    ['rubbish', ['not an address'], 'address_forbidden'],
  ])('%s', (_, addresses, expected) => {
    expect(targetOf('https://example.com/', addresses, STRICT)).toBe(expected);
  });

  test('is refused with the range, not with the address found inside', () => {
    const verdict = judgeTarget(urlOf('https://example.com/', STRICT), ['10.11.12.13'], STRICT);
    expect(verdict).toMatchObject({ detail: expect.stringContaining('10.0.0.0/8 (private)') });
    expect(JSON.stringify(verdict)).not.toContain('10.11.12.13');
  });

  test('may not mix a forbidden address with an allowed one', () => {
    expect(targetOf('http://api.internal/', ['127.0.0.1', '10.0.0.1'], LOOPBACK)).toBe('address_forbidden');
  });
});
