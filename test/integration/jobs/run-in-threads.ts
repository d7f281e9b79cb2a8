import { ThreadPool } from '../../../src/jobs/thread/thread-pool.ts';

// Run by itself, as the service is: under Node's own TypeScript loader, with the flags of `npm start`.
const [configFile = ''] = process.argv.slice(2);
const pool = new ThreadPool({ configFile, diagnostics: true, maxThreads: 2 });
const context = {
  progress: () => {},
  log: () => {},
  job: { id: 'job_1', type: 'ringback.echo', accountId: 'acc_1' },
  run: { id: 'run_1', number: 1 },
};
const { signal } = new AbortController();
const outcomes = await Promise.all([
  pool.run({ type: 'ringback.echo', input: { n: 1 }, context }, signal),
  pool.run({ type: 'call.throw', input: 'non_retryable', context }, signal),
]);
process.stdout.write(JSON.stringify({ execArgv: process.execArgv, outcomes }));
// The pool is not closed: its idle threads must not keep the process.
