import net from 'node:net';
import tls from 'node:tls';

/**
 * The handshake. Server name and certificate go by `host`, a name or an address, IPv6 without brackets, and not by what
 * the socket is connected to.
 */
export function secure(
  socket: net.Socket,
  host: string,
  secureContext: tls.SecureContext,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<tls.TLSSocket>();
  const secured = tls.connect({
    socket,
    secureContext,
    host,
    servername: net.isIP(host) === 0 ? host.replace(/\.$/, '') : '', // RFC 6066: no address, no final dot
    ALPNProtocols: ['http/1.1'],
    rejectUnauthorized: true, // or else NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment decides
  });
  const onAbort = () => {
    secured.destroy();
    reject(signal.reason);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort);
  secured.once('secureConnect', () => {
    signal.removeEventListener('abort', onAbort);
    resolve(secured);
  });
  secured.on('error', (error) => {
    signal.removeEventListener('abort', onAbort);
    reject(error);
  });
  return promise;
}
