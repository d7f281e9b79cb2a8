/** As long as one turn of the event loop and a little more: what is asked for by many who were told the same at once. */
const GATHER_MS = 1;
const MAX_ASKED = 500;

interface Asked<Question, Answer> {
  readonly question: Question;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** Questions that come together are answered together. */
export class Batches<Question, Answer> {
  readonly #answer: (questions: readonly Question[]) => Promise<readonly Answer[]>;
  #asked: Asked<Question, Answer>[] = [];
  #isDue = false;

  /** @param answer answers in the order of the questions; throwing fails them all */
  constructor(answer: (questions: readonly Question[]) => Promise<readonly Answer[]>) {
    this.#answer = answer;
  }

  add(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ question, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isDue || this.#asked.length === 0) return;
    this.#isDue = true;
    setTimeout(() => {
      this.#isDue = false;
      void this.#settle(this.#asked.splice(0, MAX_ASKED));
      this.#schedule();
    }, GATHER_MS);
  }

  async #settle(asked: ReadonlyArray<Asked<Question, Answer>>): Promise<void> {
    try {
      const answers = await this.#answer(asked.map(({ question }) => question));
      for (const [index, { resolve }] of asked.entries()) resolve(answers[index]!);
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }
}
