import type { Sql as Client } from 'postgres';
import type { Sql } from './statement.ts';

/** What drizzle uses of a client of the driver. It takes the codecs of dates and JSON out of the one it wraps; ours keep them, and it copes. */
export function clientFor(sql: Sql, begin?: <R>(work: (tx: Sql) => Promise<R>) => Promise<R>): Client {
  return {
    unsafe: sql.unsafe,
    begin: begin && (<R>(work: (client: Client) => Promise<R>) => begin((tx) => work(clientFor(tx)))),
    options: { parsers: {}, serializers: {} },
  } as unknown as Client;
}
