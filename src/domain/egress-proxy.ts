/** The operator's own way out: every callback then goes through it. */
export interface EgressProxy {
  readonly scheme: 'http' | 'https' | 'socks5';
  /** A name or an address, IPv6 without brackets. Not judged: a proxy may well be in a private network. */
  readonly host: string;
  readonly port: number;
  readonly credentials: { readonly user: string; readonly password: string } | null;
}

/** What `parseProxyUrl` takes; for the message of a config fault. */
export const PROXY_URL_FORM =
  'http://, https:// or socks5://, then host:port with user:password@ before it if need be, and nothing after it';

const DEFAULT_PORTS = { http: 80, https: 443, socks5: 1080 } as const;

/** RFC 1929 has one byte for either length; the rest is what RFC 7617 cannot carry. */
function isCredential(text: string, forbidden: RegExp): boolean {
  return Buffer.byteLength(text) <= 255 && !forbidden.test(text);
}

function credentialsOf(url: URL): EgressProxy['credentials'] | undefined {
  if (url.username === '' && url.password === '') return null;
  let user: string;
  let password: string;
  try {
    user = decodeURIComponent(url.username);
    password = decodeURIComponent(url.password);
  } catch {
    return undefined;
  }
  const fits = user !== '' && isCredential(user, /[\p{Cc}:]/u) && isCredential(password, /\p{Cc}/u);
  return fits ? { user, password } : undefined;
}

/** The proxy, or `undefined` when `text` is not `PROXY_URL_FORM`. */
export function parseProxyUrl(text: string): EgressProxy | undefined {
  const url = URL.parse(text);
  const scheme = (['http', 'https', 'socks5'] as const).find((name) => url?.protocol === `${name}:`);
  if (!url || !scheme || url.hostname === '' || /[^/]/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    return undefined;
  }
  const credentials = credentialsOf(url);
  const port = url.port === '' ? DEFAULT_PORTS[scheme] : Number(url.port);
  if (credentials === undefined || port === 0) return undefined;
  return { scheme, host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, credentials };
}
