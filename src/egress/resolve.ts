import { lookup } from 'node:dns/promises';

/** All addresses of a host name, in the order to try them. Rejects when there are none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/**
 * The operating system's resolver (hosts file, search domains and all). Equal questions in flight share one
 * answer: getaddrinfo occupies a thread of the pool, of which there are four unless UV_THREADPOOL_SIZE says
 * otherwise, and a burst to one endpoint opens many connections at once. Nothing is kept after the answer.
 */
export function systemResolver(): Resolve {
  const inFlight = new Map<string, Promise<readonly string[]>>();
  return (host) => {
    let answer = inFlight.get(host);
    if (!answer) {
      answer = lookup(host, { all: true, order: 'verbatim' })
        .then((answers) => answers.map(({ address }) => address))
        .finally(() => inFlight.delete(host));
      inFlight.set(host, answer);
    }
    return answer;
  };
}
