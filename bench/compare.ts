import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BenchPostgres, startPostgres } from './postgres.ts';
import { startService } from './service.ts';
import { type Measured, measureThroughput, startSurroundings, type Surroundings } from './throughput.ts';

/**
 * `node bench/compare.ts ../before`: what a job costs in this working tree and in another one, with its node_modules, of the same
 * repository. Both services run at the same time, each on a database of its own, and get small portions of the load in turn: a
 * machine that is now faster and now slower, or shared with others, is so for both. And all is started anew several times, for
 * two processes of the same code differ by up to a tenth for as long as they live.
 */
const STARTS = Number(process.env['BENCH_STARTS'] ?? 10);
const PORTIONS = Number(process.env['BENCH_PORTIONS'] ?? 10);
const JOBS = Number(process.env['BENCH_JOBS'] ?? 1000);
const WARM_UP_JOBS = 5000;

const [other] = process.argv.slice(2);
if (other === undefined) throw new Error('Name the working tree to compare with: node bench/compare.ts ../before');

const COLUMNS = {
  node: 'Node, us a job',
  postgres: 'PostgreSQL, us a job',
  all: 'all, us a job',
  rate: 'jobs/s',
} as const;

type Cost = Record<keyof typeof COLUMNS, number>;

async function costOf(measured: Measured): Promise<Cost> {
  const { nodeMicros, postgresMicros, jobsPerSecond } = await measureThroughput(measured, JOBS);
  return { node: nodeMicros, postgres: postgresMicros, all: nodeMicros + postgresMicros, rate: jobsPerSecond };
}

/** The means of one start: before, after. */
async function compareOnce(surroundings: Surroundings): Promise<readonly [Cost, Cost]> {
  const databases: BenchPostgres[] = [];
  const sides: Measured[] = [];
  try {
    for (const checkout of [pathToFileURL(`${resolve(other!)}/`), undefined]) {
      const postgres = await startPostgres();
      databases.push(postgres);
      const service = await startService(postgres.url, {}, checkout);
      sides.push({ ...surroundings, service, postmaster: postgres.postmaster });
    }
    const [before, after] = sides as [Measured, Measured];
    for (const side of sides) await measureThroughput(side, WARM_UP_JOBS);
    const costs: [Cost[], Cost[]] = [[], []];
    for (let portion = 0; portion < PORTIONS; portion++) {
      if (portion % 2 === 0) costs[0].push(await costOf(before));
      costs[1].push(await costOf(after));
      if (portion % 2 === 1) costs[0].push(await costOf(before));
    }
    return [meanOf(costs[0]), meanOf(costs[1])];
  } finally {
    for (const { service } of sides) await service.stop();
    for (const database of databases) await database.stop();
  }
}

function meanOf(costs: readonly Cost[]): Cost {
  const keys = Object.keys(COLUMNS) as (keyof Cost)[];
  return Object.fromEntries(keys.map((key) => [key, mean(costs.map((cost) => cost[key]))])) as Cost;
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function print(starts: readonly (readonly [Cost, Cost])[]): void {
  console.log(`${STARTS} starts, ${PORTIONS} portions of ${JOBS} jobs each in turn\n`);
  console.log(`${''.padEnd(20)}  before   after   ratio  of each start`);
  for (const [key, name] of Object.entries(COLUMNS) as [keyof Cost, string][]) {
    const [was, is] = [starts.map(([cost]) => cost[key]), starts.map(([, cost]) => cost[key])];
    const each = is.map((value, start) => value / was[start]!).toSorted((a, b) => a - b);
    const ratio = (mean(is) / mean(was)).toFixed(3);
    const means = [was, is].map((values) => mean(values).toFixed(0).padStart(7));
    console.log(
      `${name.padEnd(20)} ${means.join(' ')} ${ratio.padStart(7)}  ${each.map((value) => value.toFixed(2)).join(' ')}`,
    );
  }
}

const surroundings = await startSurroundings();
try {
  const starts: (readonly [Cost, Cost])[] = [];
  for (let start = 0; start < STARTS; start++) starts.push(await compareOnce(surroundings));
  print(starts);
} finally {
  surroundings.close();
}
