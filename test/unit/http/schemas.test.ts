import { expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { encodeCursor, idSchema, pageQuery } from '../../../src/http/schemas/common.ts';
import { submissionSchema } from '../../../src/http/schemas/job.ts';

const ID = newId('job', Date.UTC(2026, 0, 31));
const ENDPOINT = newId('ep', Date.UTC(2026, 0, 31));
const page = pageQuery('job');

function submission(more: object): object {
  return { type: 'csv.profile', input: {}, ...more };
}

function metadataOf(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`key${index}`, '🚚']));
}

/** Where the schema finds fault, as `a.b`; empty when it finds none. */
function faultsOf(body: unknown): string[] {
  const { error } = submissionSchema.safeParse(body);
  return (error?.issues ?? []).map(({ path }) => path.join('.'));
}

test('an id of the right kind is taken, any other told what one looks like', () => {
  expect(idSchema('job').parse(ID)).toBe(ID);
  for (const text of ['', ENDPOINT, ID.toUpperCase(), `${ID} `, '1']) {
    const { error } = idSchema('job').safeParse(text);
    expect(error?.issues.map(({ message }) => message)).toEqual(['must look like job_01h455vb4pex5vsknk084sn02q']);
  }
});

test.each([
  [{}, { limit: 50 }],
  [{ limit: '1' }, { limit: 1 }],
  [
    { limit: '200', cursor: encodeCursor(ID) },
    { limit: 200, cursor: ID },
  ],
])('the page query %j is read', (query, expected) => {
  expect(page.parse(query)).toEqual(expected);
});

test.each([
  { limit: '0' },
  { limit: '201' },
  { limit: '' },
  { limit: 'all' },
  { limit: '1.5' },
  { limit: '-1' },
  { cursor: '' },
  { cursor: ID },
  { cursor: encodeCursor(ENDPOINT) },
  { cursor: encodeCursor(`${ID}' OR 1=1`) },
  { cursor: '🚚' },
  { offset: '10' },
])('the page query %j is refused', (query) => {
  expect(page.safeParse(query).success).toBe(false);
});

test.each([
  ['an input', {}],
  ['an input of null', { input: null }],
  ['a callback URL', { callback: { url: 'https://example.com' } }],
  ['a callback URL for one event', { callback: { url: 'https://example.com', events: ['job.failed'] } }],
  ['an endpoint', { callback: { endpoint_id: ENDPOINT } }],
  ['no metadata', { metadata: {} }],
  ['the longest metadata', { metadata: { ['k'.repeat(64)]: 'v'.repeat(500) } }],
  ['the most metadata', { metadata: metadataOf(50) }],
])('a submission with %s is taken', (_what, more) => {
  expect(faultsOf(submission(more))).toEqual([]);
});

test.each([
  ['null', null, ['']],
  ['a list', [], ['']],
  ['empty', {}, ['type']],
  ['of no type', submission({ type: '' }), ['type']],
  ['of too long a type', submission({ type: 'x'.repeat(101) }), ['type']],
  ['of a type that is a number', submission({ type: 7 }), ['type']],
  ['with an unknown member', submission({ typo: 1 }), ['']],
  ['with a number in its metadata', submission({ metadata: { a: 1 } }), ['metadata.a']],
  ['with too long a value', submission({ metadata: { a: 'x'.repeat(501) } }), ['metadata.a']],
  ['with a NUL in a value', submission({ metadata: { a: 'a\0b' } }), ['metadata.a']],
  ['with half a character in a value', submission({ metadata: { a: '\ud83d' } }), ['metadata.a']],
  ['with too long a key', submission({ metadata: { ['k'.repeat(65)]: '' } }), [`metadata.${'k'.repeat(65)}`]],
  ['with a NUL in a key', submission({ metadata: { 'a\0': '' } }), ['metadata.a\0']],
  ['with an empty key', submission({ metadata: { '': 'x' } }), ['metadata.']],
  ['with a list of metadata', submission({ metadata: ['x'] }), ['metadata']],
  ['with too much metadata', submission({ metadata: metadataOf(51) }), ['metadata']],
])('a submission %s is refused, with the place', (_what, body, faults) => {
  expect(faultsOf(body)).toEqual(faults);
});

test.each([
  {},
  { url: '' },
  { url: `https://example.com/${'x'.repeat(4000)}` },
  { url: 7 },
  { endpoint_id: ID },
  { endpoint_id: 'ep_1' },
  { url: 'https://example.com', endpoint_id: ENDPOINT },
  { url: 'https://example.com', events: [] },
  { url: 'https://example.com', events: ['job.retrying'] },
  { url: 'https://example.com', headers: {} },
  'https://example.com',
])('a callback is refused, inside callback: %j', (callback) => {
  const faults = faultsOf(submission({ callback }));
  expect(faults).not.toEqual([]);
  expect(faults.every((path) => path.startsWith('callback'))).toBe(true);
});
