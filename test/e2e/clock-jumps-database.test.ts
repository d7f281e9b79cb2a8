import { describe, expect, onTestFinished, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { startService } from '../support/service.ts';
import { connect, goThroughJumps, JUMP_ENV } from './support/clock-jumps.ts';
import { startClockServer } from './support/clock-server.ts';
import { NO_FAKE_TIME } from './support/fake-time.ts';

if (NO_FAKE_TIME !== undefined) process.stdout.write(`skipped: clock-jumps-database.test.ts, for ${NO_FAKE_TIME}\n`);

const DAY_S = 86_400;

describe.skipIf(NO_FAKE_TIME !== undefined)("the database's clock", { timeout: 150_000 }, () => {
  test('may jump, also while a keeper starts: nothing is lost, robbed, early, late or twice', async () => {
    const { url, time, stop } = await startClockServer();
    onTestFinished(stop);
    const sql = connect(url);
    const service = await startService({ databaseUrl: url, env: JUMP_ENV });
    const ofKeeper = { ...JUMP_ENV, RINGBACK_ROLES: 'keeper', RINGBACK_SECRET_KEY: service.secretKey };
    await goThroughJumps({ service, sql, time }, async (ahead) => {
      if (ahead < DAY_S) return;
      const late = await startService({ databaseUrl: url, env: ofKeeper });
      await eventually(() =>
        expect(late.logs.map(({ msg }) => msg)).toContainEqual(expect.stringContaining('disagrees with the record')),
      );
      await late.kill();
    });
    expect(service.logs.map(({ msg }) => msg)).toContain(
      "the database's clock has jumped; time goes on as before unless it stays there",
    );
    await service.stop();
  });
});
