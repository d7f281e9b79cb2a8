import { flushCompileCache } from 'node:module';
import { type Config, ConfigError, readConfig } from './config.ts';
import { parseSecretKey } from '#domain/secret-box.ts';
import { EmbeddedPostgresError } from '#embedded/errors.ts';
import { keepSecrets } from '#embedded/kept-secrets.ts';
import { startEmbeddedPostgres } from '#embedded/postgres.ts';
import { ConfigFileError } from '#jobs/type/load-config.ts';
import { createLogger, flush, type Logger } from './log.ts';
import { type Service, StartError, startService } from './service.ts';
import type { ServiceDeps } from './parts.ts';
import { greeting } from './greeting.ts';

interface Installation extends Pick<ServiceDeps, 'database' | 'secretKeys' | 'bootstrapKey'> {
  /** Prints the API key, and a first request to paste. */
  readonly greets: boolean;
  /** Rejects when its database is gone for good. */
  readonly failed: Promise<never>;
  stop(): Promise<void>;
}

/** The database and the keys: given from outside, or made here. */
async function openInstallation(config: Config, log: Logger): Promise<Installation> {
  const { database, secretKeys, bootstrapKey } = config;
  if (database !== undefined) {
    const failed = Promise.withResolvers<never>().promise;
    return {
      database,
      secretKeys: secretKeys ?? [],
      bootstrapKey,
      greets: false,
      failed,
      stop: () => Promise.resolve(),
    };
  }
  const postgres = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    onLog: (level, message, fields) => log[level](fields, message),
  });
  const kept = await keepSecrets(config.dataDir);
  return {
    database: { url: postgres.url, direct: postgres.url, pooled: false },
    secretKeys: secretKeys ?? [parseSecretKey(kept.secretKey)!],
    bootstrapKey: bootstrapKey ?? kept.apiKey,
    greets: true,
    failed: postgres.failed,
    stop: () => postgres.stop(),
  };
}

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLogger(config.logLevel);
  for (const warning of config.warnings) log.warn(warning);
  if (config.allowsLoopbackByDefault) {
    log.warn('callbacks may reach this machine (127.0.0.0/8, ::1): set RINGBACK_EGRESS_ALLOW to decide otherwise');
  }
  const stopped = Promise.withResolvers<NodeJS.Signals>();
  process.on('SIGTERM', stopped.resolve).on('SIGINT', stopped.resolve);

  const installation = await openInstallation(config, log);
  let service: Service | undefined;
  try {
    const starting = startService({ ...installation, config, log });
    service = await Promise.race([starting, untilStopped(stopped.promise), installation.failed]);
    if (service === undefined) return;
    log.info({ url: service.url, roles: [...config.roles], pid: process.pid }, 'listening');
    await flush(log);
    flushCompileCache(); // now, for a process that is killed later
    if (installation.greets && service.url !== undefined) {
      process.stdout.write(greeting(service.url, installation.bootstrapKey ?? '', installation.database.url));
    }
    const signal = await Promise.race([stopped.promise, installation.failed]);
    log.info({ signal }, 'stopping');
  } finally {
    // A second signal does not wait.
    process.on('SIGTERM', () => process.exit(1)).on('SIGINT', () => process.exit(1));
    await service?.stop();
    await installation.stop();
  }
  log.info('stopped');
  await flush(log);
}

/** A start may take a while, when the database is not there yet; a signal ends that too. */
async function untilStopped(signal: Promise<NodeJS.Signals>): Promise<undefined> {
  await signal;
  return undefined;
}

/** Faults that the person who starts the service can mend: said plainly, without a stack. */
function isForPeople(error: unknown): error is Error {
  return [ConfigError, ConfigFileError, EmbeddedPostgresError, StartError].some((kind) => error instanceof kind);
}

try {
  await main();
  // A handler that did not listen to its signal must not keep the process.
  process.exit(0);
} catch (error) {
  console.error(isForPeople(error) ? `ringback: ${error.message}` : error);
  process.exit(1);
}
