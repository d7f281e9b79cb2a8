import { describe, expect, test } from 'vitest';
import { isIfRange, isNoneMatch } from '../../../src/http/entity-tag.ts';

const TAG = '"abc"';

describe('If-None-Match', () => {
  test.each([TAG, 'W/"abc"', '*', ' * ', '"x", "abc"', '"x","abc"', '"a,b" , W/"abc"', '"x",, "abc",'])(
    '%s names the tag',
    (header) => expect(isNoneMatch(header, TAG)).toBe(true),
  );
  test.each([undefined, '', 'abc', '"ABC"', '"abcd"', '"x", "y"', '"*"', "'abc'"])('%s does not', (header) =>
    expect(isNoneMatch(header, TAG)).toBe(false),
  );
});

describe('If-Range', () => {
  test.each([undefined, TAG, ' "abc" '])('%s allows the range', (header) => expect(isIfRange(header, TAG)).toBe(true));
  // Only a strong tag, and only one, can vouch for bytes.
  test.each(['W/"abc"', '"abd"', '"abc", "abc"', '*', 'Tue, 24 Nov 2026 04:26:45 GMT', ''])('%j does not', (header) =>
    expect(isIfRange(header, TAG)).toBe(false),
  );
  test('never by a weak tag of ours', () => expect(isIfRange('W/"abc"', 'W/"abc"')).toBe(false));
});
