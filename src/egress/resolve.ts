import { lookup as systemLookup } from 'node:dns/promises';

/** All addresses of a host name, in the order to try them. Rejects when there are none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** As `getaddrinfo` answers. */
type Lookup = (host: string) => Promise<ReadonlyArray<{ readonly address: string }>>;

const getaddrinfo: Lookup = (host) => systemLookup(host, { all: true, order: 'verbatim' });

/** What took longer is slow: a name server that does not answer is given up on after five seconds or more. */
const SLOW_MS = 1000;
/** A slow name that answers in time again is believed. */
const MOST_SLOW_NAMES = 10_000;
/** Of the threads that resolve names, 32 with `npm start`, four otherwise: slow names get one of them. */
const SLOW_AT_ONCE = 1;

/**
 * The operating system's resolver (hosts file, search domains and all). Equal questions in flight share one answer:
 * getaddrinfo occupies a thread of the pool, and a burst to one endpoint opens many connections at once. Nothing is kept
 * after the answer but the names of those that were slow: they wait for each other, so that name servers which never answer
 * do not take every thread from the others. Whoever asks has a deadline of his own.
 */
export function systemResolver(lookup: Lookup = getaddrinfo, now = () => performance.now()): Resolve {
  const inFlight = new Map<string, Promise<readonly string[]>>();
  const slow = new Set<string>();
  const waiting: Array<() => void> = [];
  let slowOnes = 0;

  async function ask(host: string): Promise<readonly string[]> {
    const wasSlow = slow.has(host);
    if (wasSlow && slowOnes++ >= SLOW_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
    const askedAt = now();
    try {
      return (await lookup(host)).map(({ address }) => address);
    } finally {
      if (now() - askedAt < SLOW_MS) slow.delete(host);
      else if (slow.size < MOST_SLOW_NAMES) slow.add(host);
      if (wasSlow) {
        slowOnes--;
        waiting.shift()?.();
      }
    }
  }

  return (host) => {
    let answer = inFlight.get(host);
    if (!answer) {
      answer = ask(host).finally(() => inFlight.delete(host));
      inFlight.set(host, answer);
    }
    return answer;
  };
}
