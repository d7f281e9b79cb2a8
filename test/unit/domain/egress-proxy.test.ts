import { expect, test } from 'vitest';
import { parseProxyUrl } from '#domain/egress-proxy.ts';

test.each([
  ['http://proxy:3128', 'http', 'proxy', 3128, null],
  ['http://proxy', 'http', 'proxy', 80, null],
  ['https://proxy.example/', 'https', 'proxy.example', 443, null],
  ['socks5://10.0.0.1', 'socks5', '10.0.0.1', 1080, null],
  ['socks5://[fd00::1]:9050', 'socks5', 'fd00::1', 9050, null],
  ['http://[::1]:8080', 'http', '::1', 8080, null],
  ['http://bob:s%3Acr%2Ft@proxy', 'http', 'proxy', 80, { user: 'bob', password: 's:cr/t' }],
  ['socks5://b%C3%B6b:@proxy', 'socks5', 'proxy', 1080, { user: 'böb', password: '' }],
])('%s is a proxy', (text, scheme, host, port, credentials) => {
  expect(parseProxyUrl(text)).toEqual({ scheme, host, port, credentials });
});

test.each([
  '',
  'proxy:3128',
  '//proxy',
  'ftp://proxy',
  'socks4://proxy',
  'socks5://',
  'http://proxy:0',
  'http://proxy:99999',
  'http://proxy/path',
  'socks5://proxy/path',
  'http://proxy?x',
  'http://proxy#x',
  'http://bo%3Ab:x@proxy', // Basic could not tell where the name ends
  'http://bob%0d%0a:x@proxy',
  'http://bob:x%00@proxy',
  'http://bob:%ff@proxy', // no UTF-8
  'http://:x@proxy',
  `socks5://bob:${'x'.repeat(256)}@proxy`,
])('%j is none', (text) => {
  expect(parseProxyUrl(text)).toBeUndefined();
});
