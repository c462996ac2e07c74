// JSON, enough to read an object's members and to write texts; npm has libraries for more. The input has to be valid, as all JSON is
// that the host passes in.

function isSpace(c: i32): bool {
  return c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d;
}

function skip(json: string, at: i32): i32 {
  while (at < json.length && isSpace(json.charCodeAt(at))) at++;
  return at;
}

/** Where the text that begins here ends. */
function textEnd(json: string, at: i32): i32 {
  for (at++; at < json.length && json.charCodeAt(at) != 0x22; at++) if (json.charCodeAt(at) == 0x5c) at++;
  return at + 1;
}

/** Where the value that begins here ends, however deep it is. */
function valueEnd(json: string, at: i32): i32 {
  for (let depth = 0; at < json.length; at++) {
    const c = json.charCodeAt(at);
    if (c == 0x22) {
      at = textEnd(json, at) - 1;
      if (!depth) return at + 1;
    } else if (c == 0x7b || c == 0x5b) depth++;
    else if (c == 0x7d || c == 0x5d) {
      if (!depth) return at;
      if (!--depth) return at + 1;
    } else if (!depth && (c == 0x2c || isSpace(c))) return at;
  }
  return at;
}

export function isObject(json: string): bool {
  const at = skip(json, 0);
  return at < json.length && json.charCodeAt(at) == 0x7b;
}

/** A member's value as it stands there; null: there is none, or it is no object. The last one counts. */
export function member(json: string, name: string): string | null {
  let found: string | null = null;
  let at = skip(json, 0);
  if (!isObject(json)) return null;
  at = skip(json, at + 1);
  while (at < json.length && json.charCodeAt(at) == 0x22) {
    let end = textEnd(json, at);
    const key = text(json.slice(at, end));
    at = skip(json, skip(json, end) + 1);
    end = valueEnd(json, at);
    if (key == name) found = json.slice(at, end);
    at = skip(json, skip(json, end) + 1);
  }
  return found;
}

/** A text, or null: not a text. */
export function text(value: string | null): string | null {
  if (value === null || value.length < 2 || value.charCodeAt(0) != 0x22) return null;
  let out = "", from = 1;
  for (let at = 1; at < value.length - 1; at++) {
    if (value.charCodeAt(at) != 0x5c) continue;
    out += value.slice(from, at);
    const c = value.charAt(++at);
    if (c == "u") {
      out += String.fromCharCode(<i32>parseInt(value.slice(at + 1, at + 5), 16));
      at += 4;
    } else out += c == "b" ? "\b" : c == "f" ? "\f" : c == "n" ? "\n" : c == "r" ? "\r" : c == "t" ? "\t" : c;
    from = at + 1;
  }
  return out + value.slice(from, value.length - 1);
}

/** A number, or NaN: not a number. */
export function number(value: string | null): f64 {
  if (value === null || !"-0123456789".includes(value.charAt(0))) return NaN;
  return parseFloat(value);
}

/** A text as JSON: "…", with escapes. */
export function quote(text: string): string {
  let out = '"', from = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    out += text.slice(from, at) + (c < 0x20 ? "\\u" + c.toString(16).padStart(4, "0") : "\\" + text.charAt(at));
    from = at + 1;
  }
  return out + text.slice(from) + '"';
}
