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

/** What is no UTF-8 becomes U+FFFD. */
export function decode(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const units: number[] = [];
    while (at < bytes.length && units.length < 4096) {
      const first = bytes[at++];
      if (first < 0x80) {
        units.push(first);
        continue;
      }
      const more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc2 ? 1 : 0;
      let c = first & (0x3f >> more), left = first < 0xf5 ? more : 0;
      const whole = left > 0;
      for (; left && at < bytes.length && (bytes[at] & 0xc0) === 0x80; left--) c = (c << 6) | (bytes[at++] & 0x3f);
      const known = whole && !left && c >= [0, 0x80, 0x800, 0x10000][more] && c <= 0x10ffff && (c < 0xd800 || c >= 0xe000);
      if (!known) c = 0xfffd;
      if (c < 0x10000) units.push(c);
      else units.push(0xd7c0 + (c >> 10), 0xdc00 | (c & 0x3ff));
    }
    text += String.fromCharCode(...units);
  }
  return text;
}
