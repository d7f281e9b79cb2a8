import type { Context } from 'hono';
import type { ServerResponse } from 'node:http';
import type { Env } from './env.ts';

/** A client that takes nothing for so long is cut off. */
const STALL_MS = 60_000;

/** Where the response goes; not there when the application is called without a server. */
function responseOf(c: Context<Env>): ServerResponse | undefined {
  return (c.env as { outgoing?: ServerResponse } | undefined)?.outgoing;
}

/**
 * A body that is read as fast as the client takes it, and no longer once the client is gone. When the source fails, the
 * connection is cut: a body that merely ended would be taken for whole, or be completed by the next response.
 */
export function streamBody(
  c: Context<Env>,
  source: AsyncIterable<Uint8Array>,
  onFailure: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const outgoing = responseOf(c);
  const iterator = source[Symbol.asyncIterator]();
  outgoing?.setTimeout(STALL_MS, () => outgoing.destroy());
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        try {
          const step = await iterator.next();
          if (step.done === true) controller.close();
          else controller.enqueue(step.value);
        } catch (error) {
          onFailure(error);
          if (outgoing === undefined) throw error;
          // Not thrown: the server's adapter would print it and append it to the body.
          outgoing.destroy();
        }
      },
      cancel: async () => {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}
