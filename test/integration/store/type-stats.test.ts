import { expect, test } from 'vitest';
import { addTypeRuns, FADE_SECONDS, readTypeRuns } from '#store/type-stats.ts';
import { useDatabase } from '../../support/database.ts';

const database = useDatabase();

const read = async (type: string) => (await readTypeRuns(database.db)).find((runs) => runs.type === type);

/** As if so much time had passed since the type's runs were added. */
async function age(type: string, seconds: number): Promise<void> {
  await database.sql`
    UPDATE ringback.job_type_stats SET updated_at = updated_at - ${seconds} * interval '1 s' WHERE type = ${type}`;
}

test('what several processes add is one sum', async () => {
  await addTypeRuns(database.db, [{ type: 'sum', runs: 3, totalMs: 300 }]);
  await Promise.all(
    Array.from({ length: 20 }, () =>
      addTypeRuns(database.db, [
        { type: 'sum', runs: 1, totalMs: 50 },
        { type: 'other', runs: 2, totalMs: 4 },
      ]),
    ),
  );
  const { runs, totalMs } = (await read('sum'))!;
  // It fades while it is added up, by a little.
  expect(runs).toBeGreaterThan(22);
  expect(runs).toBeLessThanOrEqual(23);
  expect(totalMs / runs).toBeCloseTo(1300 / 23, 0);
  expect((await read('other'))!.totalMs / (await read('other'))!.runs).toBeCloseTo(2, 2);
});

test('what is old counts for less, and the mean follows what is new', async () => {
  await addTypeRuns(database.db, [{ type: 'fading', runs: 100, totalMs: 100_000 }]);
  await age('fading', FADE_SECONDS);
  expect((await read('fading'))!.runs).toBeCloseTo(100 / Math.E, 0);
  await age('fading', 4 * FADE_SECONDS);
  await addTypeRuns(database.db, [{ type: 'fading', runs: 100, totalMs: 1000 }]);
  const { runs, totalMs } = (await read('fading'))!;
  expect(runs).toBeCloseTo(100 + 100 * Math.exp(-5), 0);
  expect(totalMs / runs).toBeLessThan(20);
});

test('what is years old does not overflow, and its mean is still known', async () => {
  await addTypeRuns(database.db, [{ type: 'old', runs: 2, totalMs: 5000 }]);
  await age('old', 5 * 365 * 86_400);
  const { runs, totalMs } = (await read('old'))!;
  expect(runs).toBeLessThan(1e-20);
  expect(totalMs / runs).toBeCloseTo(2500, 5);
  await addTypeRuns(database.db, [{ type: 'old', runs: 1, totalMs: 1 }]);
  expect((await read('old'))!.runs).toBeCloseTo(1, 1);
});

test('a clock that went back does no harm', async () => {
  await addTypeRuns(database.db, [{ type: 'early', runs: 1, totalMs: 1 }]);
  await age('early', -3600);
  await addTypeRuns(database.db, [{ type: 'early', runs: 1, totalMs: 1 }]);
  const { runs, totalMs } = (await read('early'))!;
  expect(runs).toBeCloseTo(2, 1);
  expect(totalMs / runs).toBeCloseTo(1, 5);
  await age('early', 5 * 60);
  expect((await read('early'))!.runs, 'and fades as what was counted when it was').toBeLessThan(0.1);
});
