import { expect, test } from 'vitest';
import { isEcho, withoutChallenge } from '#domain/challenge.ts';

const CHALLENGE = 'Zp0mX4yqv2x0m1Qe8w7uYt6r5E4W3q2a1S0d9F8g7H6';
const body = (text: string) => Buffer.from(text);

test.each([
  ['something else', 'ok'],
  ['nothing', ''],
  ['blanks', ' \n'],
  ['a part of it', CHALLENGE.slice(0, -1)],
  ['it twice', CHALLENGE + CHALLENGE],
  ['it in other letters', CHALLENGE.toLowerCase()],
  ['it with words around it', `challenge: ${CHALLENGE}`],
  ['it in quotes', JSON.stringify(CHALLENGE)],
  ['it in an array', JSON.stringify([CHALLENGE])],
  [
    'the whole request',
    JSON.stringify({ type: 'endpoint.challenge', timestamp: 'now', data: { challenge: CHALLENGE } }),
  ],
  ['the request’s data', JSON.stringify({ endpoint: { id: 'ep_1' }, challenge: CHALLENGE })],
  ['another member besides it', JSON.stringify({ challenge: CHALLENGE, ok: true })],
  ['another name for it', JSON.stringify({ Challenge: CHALLENGE })],
  ['it in an object of its own', JSON.stringify({ challenge: { challenge: CHALLENGE } })],
  ['a list of it', JSON.stringify({ challenge: [CHALLENGE] })],
  ['JSON that is cut off', `{"challenge":"${CHALLENGE}"`],
  ['JSON with something behind it', `{"challenge":"${CHALLENGE}"} {}`],
  ['a prototype', `{"__proto__":{"challenge":"${CHALLENGE}"}}`],
  ['null', 'null'],
  ['an empty object', '{}'],
])('an answer is no echo that is %s', (_what, text) => {
  expect(isEcho(CHALLENGE, body(text))).toBe(false);
});

test.each([
  ['the challenge', CHALLENGE],
  ['the challenge with blanks around it', ` \r\n${CHALLENGE}\n`],
  ['JSON', JSON.stringify({ challenge: CHALLENGE })],
  ['JSON, written widely', `\n{\n  "challenge" : "${CHALLENGE}"\n}\n`],
])('an answer is an echo that is %s', (_what, text) => {
  expect(isEcho(CHALLENGE, body(text))).toBe(true);
});

test('bytes that are no text are no echo, and no fault', () => {
  expect(isEcho(CHALLENGE, Uint8Array.from([0xff, 0xfe, 0]))).toBe(false);
});

test('what is recorded of an answer holds the challenge nowhere', () => {
  expect(withoutChallenge(CHALLENGE, `a ${CHALLENGE}${CHALLENGE} b`)).toBe('a [challenge][challenge] b');
});
