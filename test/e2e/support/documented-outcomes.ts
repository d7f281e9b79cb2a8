import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import postgres from 'postgres';

/** The page, its blocks, and what stands in them: the same text whatever ids, times and ports a run has. */

const PAGE = new URL('../../../docs/guides/delivery-outcomes.md', import.meta.url);

const VOLATILE: ReadonlyArray<readonly [RegExp, string]> = [
  [/\b(acc|job|evt|ep|dlv|att|sec|wrk)_[0-9a-z]{26}\b/g, '$1_*'],
  [/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)/g, '<time>'],
  [/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>'],
  // psql rules its records as wide as their widest value.
  [/^-\[ RECORD (\d+) \][-+]*$/gm, '-[ RECORD $1 ]'],
];

export function masked(text: string): string {
  return VOLATILE.reduce((given, [pattern, mask]) => given.replaceAll(pattern, mask), text).trim();
}

export interface Shown {
  readonly json: unknown;
  readonly psql: string;
}

export interface Page {
  /** Headings of the second level, without their backticks. */
  readonly headings: readonly string[];
  /** What a section shows, masked. */
  readonly shown: (heading: string) => Shown;
  readonly text: (heading: string) => string;
  /** The statements of the page, in their order. */
  readonly statements: readonly string[];
}

export async function readPage(): Promise<Page> {
  const page = await readFile(PAGE, 'utf8');
  const sections = new Map(
    page
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.slice(0, section.indexOf('\n')).replaceAll('`', ''), section]),
  );
  const blocks = (text: string, language: string) =>
    [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].flatMap(([, found, body]) => (found === language ? [body!] : []));
  const text = (heading: string) => sections.get(heading) ?? '';
  return {
    headings: [...sections.keys()],
    text,
    shown: (heading) => ({
      json: JSON.parse(masked(blocks(text(heading), 'json')[0] ?? 'null')),
      psql: masked(blocks(text(heading), 'text')[0] ?? ''),
    }),
    statements: blocks(page, 'sql').flatMap((block) =>
      block
        .trim()
        .split(/;\n?/)
        .filter((line) => line !== ''),
    ),
  };
}

/** Writes what there is into a section, in place of what the page shows. */
export async function rewrite(heading: string, json: unknown, psql: string): Promise<void> {
  const page = await readFile(PAGE, 'utf8');
  const sections = page.split(/^(?=## )/m).map((section) => {
    if (section.slice(3, section.indexOf('\n')).replaceAll('`', '') !== heading) return section;
    const text = JSON.stringify(json, null, 2);
    return section
      .replace(/^```json\n.*?^```$/ms, () => `\`\`\`json\n${text}\n\`\`\``)
      .replace(/^```text\n.*?^```$/ms, () => `\`\`\`text\n${psql.trimEnd()}\n\`\`\``);
  });
  await writeFile(PAGE, sections.join(''));
}

/** What `psql -x` prints of a statement, of which it is known here how it prints. */
export async function expanded(url: string, statement: string): Promise<string> {
  const sql = postgres(url, { max: 1, connection: { TimeZone: 'UTC' } });
  // Raw: the text that the server sends, which is what psql shows.
  const found = await sql.unsafe(statement).raw();
  await sql.end();
  const columns = found.columns.map(({ name }) => name);
  const rows = found.map((row) => row.map((value) => (value === null ? '' : Buffer.from(value).toString())));
  if (rows.length === 0) return '(0 rows)\n';
  const width = Math.max(...columns.map((name) => name.length));
  return rows
    .map((values, index) => {
      const wide = Math.max(...values.map((value) => value.length));
      const title = `-[ RECORD ${index + 1} ]`;
      const rule = `${title.padEnd(width + 1, '-')}${title.length > width + 1 ? '' : '+'}`.padEnd(
        width + 2 + wide + 1,
        '-',
      );
      return [rule, ...columns.map((name, column) => `${name.padEnd(width)} | ${values[column]}`.trimEnd())].join('\n');
    })
    .join('\n')
    .concat('\n');
}

/** The same by psql itself; undefined where there is none: then it is not checked that psql still prints like this. */
export async function byPsql(url: string, statement: string): Promise<string | undefined> {
  try {
    const args = ['-X', '-x', '-d', url, '-c', "SET TIME ZONE 'UTC'", '-c', statement];
    const { stdout } = await promisify(execFile)('psql', args, {
      env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
    });
    return stdout.replace(/^SET\n/, '').replaceAll(/ +$/gm, '');
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}
