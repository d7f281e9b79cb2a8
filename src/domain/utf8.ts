const REPLACEMENT = '\ufffd';
const REPLACEMENT_BYTES = Buffer.from(REPLACEMENT);

/** Offset of the first byte that is not UTF-8; the length when all are. */
export function firstInvalidUtf8(bytes: Buffer): number {
  // Decoding puts U+FFFD where something is wrong. It may also stand in the text itself: then its own bytes are there.
  const text = bytes.toString();
  let [offset, from] = [0, 0];
  for (let at = text.indexOf(REPLACEMENT); at !== -1; at = text.indexOf(REPLACEMENT, from)) {
    offset += Buffer.byteLength(text.slice(from, at));
    if (!bytes.subarray(offset, offset + REPLACEMENT_BYTES.length).equals(REPLACEMENT_BYTES)) return offset;
    offset += REPLACEMENT_BYTES.length;
    from = at + 1;
  }
  return bytes.length;
}
