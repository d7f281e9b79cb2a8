/** Time and chance, where decisions hang on them: handed in, so that a test can say what they are. */
export interface Clock {
  readonly now: () => Date;
  /** In [0, 1). */
  readonly random: () => number;
}
