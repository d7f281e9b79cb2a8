import { hash, timingSafeEqual } from 'node:crypto';

/**
 * Whether an answer is the echo of a challenge, as somebody gives it who means to: the challenge, or JSON whose only member it
 * is, and nothing else. A receiver that sends back whatever it gets (the whole request, or its `data`) proves nothing.
 */
export function isEcho(challenge: string, body: Uint8Array): boolean {
  const text = Buffer.from(body).toString().trim();
  const given = text.startsWith('{') ? onlyMember(text) : text;
  // Digests are of one length, whatever was given, and tell nothing by the time it takes to compare them.
  return given !== undefined && timingSafeEqual(digest(given), digest(challenge));
}

function onlyMember(text: string): string | undefined {
  try {
    const { challenge, ...others } = JSON.parse(text) as Record<string, unknown>;
    return typeof challenge === 'string' && Object.keys(others).length === 0 ? challenge : undefined;
  } catch {
    return undefined;
  }
}

function digest(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}

/** The same text with the challenge made unreadable: what a receiver said of it is for everybody who may read attempts. */
export function withoutChallenge(challenge: string, text: string): string {
  return text.replaceAll(challenge, '[challenge]');
}
