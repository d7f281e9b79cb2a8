/** Why the embedded PostgreSQL is not there. Every message names the way out, `DATABASE_URL` being always one. */
export type EmbeddedPostgresErrorCode =
  | 'unsupported_platform' // no binaries are published for this operating system and processor
  | 'binaries_unusable' // they are there, but do not run
  | 'no_unprivileged_user' // we are root, and cannot become anybody else
  | 'unreachable_data_dir' // ... whom no place for the data would be open to
  | 'data_dir_denied' // the file system refused us something
  | 'data_version_mismatch'
  | 'data_missing' // the cluster was there when we started, and is not any more
  | 'password_missing'
  | 'already_running'
  | 'init_failed'
  | 'start_failed'
  | 'start_timeout'
  | 'stop_failed';

export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly code: EmbeddedPostgresErrorCode;

  constructor(code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

const DENIED = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'ENOSPC']);

/** Gives a file system's refusal under `dataDir` a message that says what to do; other errors pass through. */
export function explainRefusal(error: unknown, dataDir: string): unknown {
  const { code = '', path, message } = error as NodeJS.ErrnoException;
  if (error instanceof EmbeddedPostgresError || !DENIED.has(code)) return error;
  return new EmbeddedPostgresError(
    'data_dir_denied',
    `The embedded PostgreSQL cannot use ${path ?? dataDir} (${message}). Start Ringback as the user that owns ` +
      `${dataDir}, or set RINGBACK_DATA_DIR to a directory that this user may write, or set DATABASE_URL.`,
    { cause: error },
  );
}
