/** Time and chance, where decisions hang on them: handed in, so that a test can say what they are. */
export interface Clock {
  /** The database's time (docs/decisions/0021). What lasts within a process is measured by `performance.now()` instead. */
  readonly now: () => Date;
  /** In [0, 1). */
  readonly random: () => number;
}
