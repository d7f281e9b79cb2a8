/**
 * What a source yields, until the signal aborts: then its reason is thrown at once, though the source may never yield
 * again, and the source is told to end. Nobody waits for that.
 */
export async function* interruptible<T>(
  source: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, void> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  try {
    for (;;) {
      const step = await nextOrAbort(iterator, signal);
      if (step.done === true) return;
      yield step.value;
    }
  } finally {
    void end(iterator);
  }
}

/** One listener a step: a race against one long-lived promise would keep something of every step until the end. */
function nextOrAbort<T>(
  iterator: AsyncIterator<T> | Iterator<T>,
  signal: AbortSignal,
): Promise<IteratorResult<T, unknown>> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort);
    const done = () => signal.removeEventListener('abort', onAbort);
    next(iterator).finally(done).then(resolve, reject);
  });
}

/** Rejects where the source throws. */
async function next<T>(iterator: AsyncIterator<T> | Iterator<T>): Promise<IteratorResult<T, unknown>> {
  return iterator.next();
}

async function end(iterator: AsyncIterator<unknown> | Iterator<unknown>): Promise<void> {
  try {
    await iterator.return?.();
  } catch {
    // It was not asked how it ended.
  }
}
