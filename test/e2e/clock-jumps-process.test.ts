import { describe, onTestFinished, test } from 'vitest';
import { useEmptyDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { connect, goThroughJumps, JUMP_ENV } from './support/clock-jumps.ts';
import { fakeTime, NO_FAKE_TIME } from './support/fake-time.ts';

if (NO_FAKE_TIME !== undefined) process.stdout.write(`skipped: clock-jumps-process.test.ts, for ${NO_FAKE_TIME}\n`);

describe.skipIf(NO_FAKE_TIME !== undefined)('the clock of a process', { timeout: 150_000 }, () => {
  test('may be wrong, and jump: nothing is lost, robbed, early, late or twice', async () => {
    const databaseUrl = await useEmptyDatabase();
    const sql = connect(databaseUrl);
    const time = fakeTime(45);
    onTestFinished(() => time.remove());
    const service = await startService({ databaseUrl, env: { ...JUMP_ENV, ...time.env } });
    await goThroughJumps({ service, sql, time });
    await service.stop();
  });
});
