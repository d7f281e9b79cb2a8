export interface BatchesOptions<Question, Answer> {
  /** Answers in the order of the questions; throwing fails them all. */
  readonly answer: (questions: readonly Question[]) => Promise<readonly Answer[]>;
  /** Questions of one batch at most. */
  readonly maxQuestions: number;
  /** Batches under way at once; while they are, newcomers gather for the next. */
  readonly maxBatches: number;
}

interface Asked<Question, Answer> {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** Questions that come together are answered together. One that comes alone waits for the event loop's turn and no longer. */
export class Batches<Question, Answer> {
  readonly #options: BatchesOptions<Question, Answer>;
  #asked: Asked<Question, Answer>[] = [];
  #batches = 0;
  #isDue = false;

  constructor(options: BatchesOptions<Question, Answer>) {
    this.#options = options;
  }

  add(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ question, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isDue || this.#asked.length === 0 || this.#batches >= this.#options.maxBatches) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#batches += 1;
      void this.#settle(this.#asked.splice(0, this.#options.maxQuestions)).then(() => {
        this.#batches -= 1;
        this.#schedule();
      });
      this.#schedule();
    });
  }

  async #settle(asked: ReadonlyArray<Asked<Question, Answer>>): Promise<void> {
    try {
      const answers = await this.#options.answer(asked.map(({ question }) => question));
      for (const [index, { resolve }] of asked.entries()) resolve(answers[index]!);
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }
}
