import { expect, test } from 'vitest';
import { CsvError, CsvReader, detectDelimiter, MAX_FIELD_CHARS } from '../../../examples/csv-profile/reader.ts';

function read(text: string): { line: number; fields: readonly string[] }[] {
  const reader = new CsvReader(text, ',', 10);
  const records = [];
  for (let record = reader.next(); record; record = reader.next()) {
    if (!record.blank) records.push({ line: record.line, fields: record.fields });
  }
  return records;
}

const fields = (text: string) => read(text).map((record) => record.fields);

test.each([
  [
    'a line break at the end or none',
    'a,b\r\n1,2',
    [
      ['a', 'b'],
      ['1', '2'],
    ],
  ],
  ['LF, CRLF and CR', 'a\nb\r\nc\rd\n', [['a'], ['b'], ['c'], ['d']]],
  ['a byte order mark', '\ufeffa,b', [['a', 'b']]],
  ['a byte order mark before a quote', '\ufeff"a,b"', [['a,b']]],
  [
    'empty fields at either end',
    ',a,\n,,',
    [
      ['', 'a', ''],
      ['', '', ''],
    ],
  ],
  ['quoted delimiters, quotes and line breaks', '"a,b","say ""hi""","x\r\ny\n"', [['a,b', 'say "hi"', 'x\r\ny\n']]],
  ['an empty quoted field, which is no blank line', '""\n\n""', [[''], ['']]],
  ['only quotes', '"""",""""""', [['"', '""']]],
  ['spaces, which belong to the field (RFC 4180, 2.4)', ' a , b ', [[' a ', ' b ']]],
  ['a quote within an unquoted field, literally', 'pipe 5" long,x', [['pipe 5" long', 'x']]],
])('reads %s', (_, text, expected) => {
  expect(fields(text)).toEqual(expected);
});

test('a record is numbered by the line where it starts, whatever line breaks its fields hold', () => {
  expect(read('a\r\n"1\r\n2\n3\r4"\r\n\r\nb').map((record) => record.line)).toEqual([1, 2, 7]);
});

test.each([
  [
    'a quote that never closes, at the line where it opens',
    'a\n"x\ny',
    'line 2: a quoted field starts here and never ends',
  ],
  ['a quoted field that ends in a doubled quote', '"x""', 'line 1: a quoted field starts here and never ends'],
  ['text after a closing quote', 'a\n"x"y', 'line 2: text follows the closing quote of a field'],
  ['more fields than are read', ','.repeat(10), 'line 1: more than 10 fields'],
  ['a huge field', 'x'.repeat(MAX_FIELD_CHARS + 1), `line 1: a field is longer than ${MAX_FIELD_CHARS} characters`],
  ['a huge quoted field', `"${'""'.repeat(MAX_FIELD_CHARS)}"`, 'line 1: a field is longer than'],
])('refuses %s', (_, text, message) => {
  expect(() => read(text)).toThrow(CsvError);
  expect(() => read(text)).toThrow(message);
});

test.each([
  [',', 'a,b\n1,2'],
  [';', 'price;weight\n1,5;2,5\n3,5;4,5'],
  ['\t', 'a\tb, c\n1\t2'],
  ['|', 'a|b|c\n1|2|3'],
  [',', '"x;y;z",b\n"1;2",2'],
  [';', 'a;b\n"1,2,3";4'],
  [',', 'one column\nwith, some commas'],
  [';', 'a;b;c\n1;2;3\n4'],
  [',', 'name; or alias\none\ntwo'],
  [',', ''],
] as const)('detects %j', (delimiter, text) => {
  expect(detectDelimiter(text)).toBe(delimiter);
});

test('detects the delimiter of a file whose first 64 Ki characters end within a quoted field', () => {
  const rows = Array.from({ length: 30 }, (_, index) => `${index};"${'long, text\n'.repeat(400)}"`);
  expect(detectDelimiter(`id;note\n${rows.join('\n')}`)).toBe(';');
});
