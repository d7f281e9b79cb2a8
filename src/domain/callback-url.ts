import { judgeAddress, type Cidr } from './address.ts';

/**
 * May this URL be called back? Judged twice: as text (`judgeUrl`), and once its name is resolved (`judgeTarget`).
 * An address inside `allow` may be reached over plain http and on any port; every other one needs https and a
 * permitted port. For a host name that is known only after resolution.
 */
export interface EgressPolicy {
  /** Ranges that may be reached although they are private. */
  readonly allow: readonly Cidr[];
  /** Plain http, and port 80, to public addresses too. */
  readonly allowHttp: boolean;
  /** Ports of public addresses: normally 443 and 8443. */
  readonly ports: readonly number[];
}

export const CALLBACK_URL_REFUSALS = [
  'malformed',
  'too_long',
  'scheme_forbidden',
  'userinfo_forbidden',
  'port_forbidden',
  'address_forbidden',
] as const;

/** Also the `error_code` of an attempt that the guard blocked. */
export type CallbackUrlRefusal = (typeof CALLBACK_URL_REFUSALS)[number];

/** A URL as the WHATWG parser normalises it, without its fragment. */
export interface CallbackUrl {
  readonly href: string;
  /** Scheme, host and port when it is not the scheme's own: connections are shared within it. */
  readonly origin: string;
  readonly secure: boolean;
  /** A name in ASCII or an address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Path and query, as sent on the request line. */
  readonly path: string;
  readonly isAddressLiteral: boolean;
}

export interface UrlRefusal {
  readonly ok: false;
  readonly reason: CallbackUrlRefusal;
  /** One sentence for the client, saying what to do. Never holds the query string. */
  readonly detail: string;
}

export type UrlVerdict = { readonly ok: true; readonly url: CallbackUrl } | UrlRefusal;
export type TargetVerdict = { readonly ok: true } | UrlRefusal;

export const MAX_URL_LENGTH = 2000;

function refuse(reason: CallbackUrlRefusal, detail: string): UrlRefusal {
  return { ok: false, reason, detail };
}

function describe(url: URL): CallbackUrl {
  const secure = url.protocol === 'https:';
  const isIpv6 = url.hostname.startsWith('[');
  return {
    href: url.href,
    origin: url.origin,
    secure,
    host: isIpv6 ? url.hostname.slice(1, -1) : url.hostname,
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    path: url.href.slice(url.origin.length),
    // A WHATWG host whose last label is a number is an IPv4 address or no host at all.
    isAddressLiteral: isIpv6 || /(^|\.)\d+$/.test(url.hostname),
  };
}

/** Scheme and port for an address that no `allow` range covers. */
function judgeReach(url: CallbackUrl, policy: EgressPolicy): TargetVerdict {
  if (!url.secure && !policy.allowHttp) {
    return refuse('scheme_forbidden', 'Callbacks to public addresses need https: use an https:// URL.');
  }
  if (policy.ports.includes(url.port) || (policy.allowHttp && url.port === 80)) return { ok: true };
  const ports = policy.ports.join(', ');
  return refuse('port_forbidden', `Port ${url.port} may not be called back: use one of the ports ${ports}.`);
}

/**
 * Judges a callback URL before anything is resolved. The odd spellings of an address (`0x7f.1`, `2130706433`,
 * `127.1`, `[::ffff:127.0.0.1]`) are normalised by the URL parser first and then judged like any other.
 */
export function judgeUrl(text: string, policy: EgressPolicy): UrlVerdict {
  const parsed = URL.parse(text);
  if (!parsed) return refuse('malformed', 'Give an absolute URL such as https://example.com/callbacks.');
  if (parsed.protocol !== 'https:' && parsed.protocol !== 'http:') {
    return refuse('scheme_forbidden', 'Callbacks are HTTP requests: use an https:// URL.');
  }
  if (parsed.username !== '' || parsed.password !== '') {
    return refuse(
      'userinfo_forbidden',
      'Leave user name and password out of the URL: authenticate callbacks by signature.',
    );
  }
  parsed.hash = '';
  if (parsed.href.length > MAX_URL_LENGTH) {
    return refuse(
      'too_long',
      `The URL has ${parsed.href.length} characters when normalised: use at most ${MAX_URL_LENGTH}.`,
    );
  }

  const url = describe(parsed);
  if (url.port === 0) return refuse('port_forbidden', 'Port 0 cannot be reached: use another port.');
  if (url.isAddressLiteral) {
    const verdict = judgeTarget(url, [url.host], policy);
    return verdict.ok ? { ok: true, url } : verdict;
  }
  // Whatever the name resolves to, nothing private may be reached: scheme and port can be judged at once.
  const reach = policy.allow.length === 0 ? judgeReach(url, policy) : { ok: true as const };
  return reach.ok ? { ok: true, url } : reach;
}

/**
 * Judges what the URL's host resolved to. One forbidden answer refuses all: a name that mixes public and private
 * addresses is either a mistake or an attack. The detail names the range, never the address: what a name resolves
 * to inside this network is nobody's business outside.
 */
export function judgeTarget(url: CallbackUrl, addresses: readonly string[], policy: EgressPolicy): TargetVerdict {
  let reach: TargetVerdict = { ok: true };
  for (const address of addresses) {
    const judged = judgeAddress(address, policy.allow);
    if (judged.verdict === 'forbidden') {
      const what = url.isAddressLiteral ? 'is' : 'resolves to';
      return refuse(
        'address_forbidden',
        `The host ${url.host} ${what} an address in ${judged.range}, which callbacks may not reach: ` +
          'use a publicly reachable host, or ask the operator to allow the range.',
      );
    }
    if (judged.verdict === 'public') reach = judgeReach(url, policy);
  }
  return reach;
}
