import { expect, test } from 'vitest';
import { z } from 'zod';
import type { AnyJobDefinition } from '../../../src/jobs/type/define.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';

const url = 'http://10.0.0.7:8080/render?v=1';

function register(backend: unknown): JobTypes {
  return new JobTypes([{ type: 'pdf.render', input: z.unknown(), backend } as AnyJobDefinition]);
}

test.each<[string, unknown]>([
  ['a private address over plain http', { url }],
  ['a name', { url: 'https://pdf.internal/' }],
  ['IPv6', { url: 'http://[::1]:3000' }],
  ['an IPv4 address within IPv6', { url: 'http://[::ffff:127.0.0.1]/' }],
  [
    'every member',
    { url, method: 'GET', headers: { authorization: 'Bearer x', host: 'pdf.internal:80' }, timeoutMs: 1 },
  ],
  ['an empty header', { url, headers: { 'x-empty': '' } }],
  ['a host that is an address', { url, headers: { Host: '[::1]:80' } }],
])('a back end with %s can be used', (_, backend) => {
  expect(register(backend).get('pdf.render')).toMatchObject({ way: 'backend', backend });
});

const URL_FAULT = 'backend.url must be an http(s) URL without user name and password';

test.each<[string, unknown, string]>([
  ['null', null, 'backend must be { url'],
  ['a string', url, 'backend must be { url'],
  ['no url', {}, URL_FAULT],
  ['a relative url', { url: '/render' }, URL_FAULT],
  ['another scheme', { url: 'ftp://10.0.0.7/' }, URL_FAULT],
  ['credentials in the url', { url: 'http://user:secret@10.0.0.7/' }, URL_FAULT],
  ['port 0', { url: 'http://10.0.0.7:0/' }, URL_FAULT],
  ['a method without meaning', { url, method: 'TRACE' }, 'backend.method must be one of POST, PUT, PATCH, GET, DELETE'],
  ['a method in lower case', { url, method: 'post' }, 'backend.method'],
  ['headers that are null', { url, headers: null }, 'backend.headers must be'],
  ['a header without a name', { url, headers: { '': 'x' } }, '"" is not the name of a header'],
  ['a blank in a name', { url, headers: { 'x y': 'z' } }, '"x y" is not the name of a header'],
  ['a line break in a name', { url, headers: { 'x\r\nhost': 'z' } }, 'is not the name of a header'],
  ['a line break in a value', { url, headers: { x: 'a\r\nhost: evil' } }, 'the value of x must be printable text'],
  ['a NUL in a value', { url, headers: { x: 'a\0' } }, 'the value of x must be printable text'],
  ['a value beyond ASCII', { url, headers: { x: '\u010a' } }, 'the value of x must be printable text'],
  ['a value that is no text', { url, headers: { x: 1 } }, 'the value of x must be printable text'],
  ['the same name twice', { url, headers: { 'X-Key': 'a', 'x-key': 'b' } }, 'x-key twice'],
  ['a host with a path', { url, headers: { host: 'a/b' } }, 'the value of host'],
  ['an empty host', { url, headers: { host: '' } }, 'the value of host'],
  ['two hosts', { url, headers: { host: 'a, b' } }, 'the value of host'],
  ['a timeout of 0', { url, timeoutMs: 0 }, 'backend.timeoutMs must be'],
  ['a timeout for ever', { url, timeoutMs: Number.POSITIVE_INFINITY }, 'backend.timeoutMs must be'],
])('a back end with %s is refused', (_, backend, message) => {
  expect(() => register(backend)).toThrow(message);
});

test.each([
  'Accept-Encoding',
  'Connection',
  'Content-Length',
  'Expect',
  'Keep-Alive',
  'Proxy-Connection',
  'TE',
  'Trailer',
  'Transfer-Encoding',
  'Upgrade',
])('the header %s belongs to the connection', (name) => {
  expect(() => register({ url, headers: { [name]: 'x' } })).toThrow(`${name.toLowerCase()} belongs to the connection`);
});

test.each(['Idempotency-Key', 'Ringback-Job-Id', 'ringback-completion-url', 'ringback-anything'])(
  'the header %s is ours to set',
  (name) => {
    expect(() => register({ url, headers: { [name]: 'x' } })).toThrow('is set for every run: leave it out');
  },
);
