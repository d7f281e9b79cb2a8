import { expect, test } from 'vitest';
import { isContentType } from '#jobs/run/handler.ts';

test.each([
  'application/pdf',
  'text/csv; charset=utf-8',
  'text/html;charset="UTF-8"; header=present',
  'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
  'image/svg+xml',
  'text/plain;',
  'TEXT/Plain ; x=1',
])('%s may stand in a header', (text) => expect(isContentType(text)).toBe(true));

test.each([
  '',
  'pdf',
  'application/',
  '/pdf',
  'application/pdf/x',
  'application/pdf\r\nset-cookie: a=b',
  'text/html; charset=utf-8\r\n\r\n<script>',
  'text/plain\n',
  'text/plain; a=b\n',
  'text/plain; a=\0',
  'text/plain; a=ä',
  'text/plain; a=\u007f',
  'text/plain; a=\ud800',
  'te xt/plain',
  ' text/plain',
  'text/plain, text/html',
  `text/${'x'.repeat(200)}`,
])('%j may not', (text) => expect(isContentType(text)).toBe(false));
