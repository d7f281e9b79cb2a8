import { defineConfig } from 'vitest/config';
import { ClosingLine } from './test/support/closing-line.ts';

export default defineConfig({
  test: {
    pool: 'forks',
    // Every file has a database, and some a service, of its own: more at once would test the machine instead.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    retry: 0,
    reporters: ['default', new ClosingLine()],
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: ['test/unit/**'],
          // A project's set-up runs only when one of its files does: unit tests alone start no database.
          globalSetup: ['test/support/global-setup.ts'],
        },
      },
    ],
  },
});
