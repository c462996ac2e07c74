// Text as bytes, and back: QuickJS has neither TextEncoder nor TextDecoder.

export function encode(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 3); // a pair of two gives four
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    let c = text.codePointAt(i)!;
    if (c >= 0x10000) i++;
    else if (c >= 0xd800 && c < 0xe000) c = 0xfffd; // half a pair is no character
    if (c < 0x80) bytes[at++] = c;
    else {
      if (c < 0x800) bytes[at++] = 0xc0 | (c >> 6);
      else {
        if (c < 0x10000) bytes[at++] = 0xe0 | (c >> 12);
        else {
          bytes[at++] = 0xf0 | (c >> 18);
          bytes[at++] = 0x80 | ((c >> 12) & 63);
        }
        bytes[at++] = 0x80 | ((c >> 6) & 63);
      }
      bytes[at++] = 0x80 | (c & 63);
    }
  }
  return bytes.slice(0, at);
}

/** What is no UTF-8 is an error. */
export function decode(bytes: Uint8Array): string {
  let escaped = "";
  for (const byte of bytes) escaped += byte === 0x25 || byte >= 0x80 ? `%${byte.toString(16).padStart(2, "0")}` : String.fromCharCode(byte);
  return decodeURIComponent(escaped);
}
