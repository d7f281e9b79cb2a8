import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { onTestFinished } from 'vitest';
import { eventually } from './eventually.ts';

/** One event as a client gets it, fields as they were sent. */
export interface SentEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  // eslint-disable-next-line -- what a test expects of it, the test says
  readonly data: any;
}

/** A stream of server-sent events, read as `curl -N` does: byte by byte as they come. */
export interface EventStream {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** Everything so far; grows. */
  text(): string;
  /** The whole events so far; grows. */
  events(): SentEvent[];
  /** Waits until there are so many. */
  until(count: number): Promise<SentEvent[]>;
  /** True once the server has ended it well. */
  isEnded(): boolean;
  /** Resolves once it has ended: well, or because the connection broke. */
  readonly ended: Promise<void>;
  /** Resets the connection, in the middle of whatever it carries. */
  cut(): void;
  /** Reads nothing any more. */
  pause(): void;
}

/** Cut with the test, should it still be open. */
export async function openEventStream(url: string, headers: Readonly<Record<string, string>>): Promise<EventStream> {
  // Kept for the next request, as most clients do.
  const agent = new Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const sent = request(url, { headers: { accept: 'text/event-stream', ...headers }, agent });
  const answered = once(sent, 'response') as Promise<[IncomingMessage]>;
  sent.end();
  const [response] = await answered;
  sent.on('error', () => {});
  response.on('error', () => {});
  onTestFinished(() => void response.destroy());
  let text = '';
  response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const ended = new Promise<void>((resolve) => response.once('close', resolve));
  const events = () => parseEvents(text);
  return {
    status: response.statusCode!,
    headers: response.headers,
    text: () => text,
    events,
    until: (count) =>
      eventually(() => {
        const sofar = events();
        if (sofar.length < count) throw new Error(`only ${sofar.length} of ${count} events: ${text}`);
        return sofar;
      }),
    isEnded: () => response.complete,
    ended,
    cut: () => void response.socket.resetAndDestroy(),
    pause: () => void response.pause(),
  };
}

/** Blocks that are whole and hold data; comments and `retry` are left out. */
function parseEvents(text: string): SentEvent[] {
  const blocks = text.split('\n\n').slice(0, -1);
  return blocks.flatMap((block) => {
    const fields = new Map(
      block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    const data = fields.get('data');
    return data === undefined
      ? []
      : [{ id: fields.get('id'), event: fields.get('event'), data: JSON.parse(data) as unknown }];
  });
}
