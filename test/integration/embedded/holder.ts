import { EmbeddedPostgresError } from '#embedded/errors.ts';
import { startEmbeddedPostgres } from '#embedded/postgres.ts';

// Starts the embedded PostgreSQL on argv[2] (argv[3]: durable or volatile), says so in one line, and holds it until it
// is killed. It never stops the server itself: that is what its tests are about.
const [, , dataDir = '', durability] = process.argv;
const report = await startEmbeddedPostgres({ dataDir, durable: durability === 'durable' }).then(
  ({ url, adopted }) => ({ ok: true, pid: process.pid, url, adopted }),
  (error: unknown) => {
    if (!(error instanceof EmbeddedPostgresError)) throw error;
    return { ok: false, pid: process.pid, code: error.code, message: error.message };
  },
);
process.stdout.write(`${JSON.stringify(report)}\n`);
if (report.ok) setInterval(() => {}, 60_000);
