// AssemblyScript has no bindings generator: this is the Canonical ABI of busway:plugin@0.1.0 by hand.

const received: usize[] = []; // what the host has put into memory for this call

export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (!size) return align;
  const p = old && oldSize ? heap.realloc(old, size) : heap.alloc(size); // aligned to 16
  received.push(p);
  return p;
}

/** Frees what the host has put into memory: when the call no longer needs it. */
export function release(): void {
  for (let i = 0; i < received.length; i++) heap.free(received[i]);
  received.length = 0;
}

// Reading, at an offset: a string is (pointer, length), an option a tag and then the value.
export function str(at: usize): string {
  const len = load<u32>(at + 4);
  return len ? String.UTF8.decodeUnsafe(load<u32>(at), len) : "";
}
export function opt(at: usize): string | null {
  return load<u8>(at) ? str(at + 4) : null;
}
export function strs(at: usize): string[] {
  const from = load<u32>(at), out: string[] = [];
  for (let i: u32 = 0; i < load<u32>(at + 4); i++) out.push(str(from + 8 * i));
  return out;
}
export function pairs(at: usize): Pair[] {
  const from = load<u32>(at), out: Pair[] = [];
  for (let i: u32 = 0; i < load<u32>(at + 4); i++) out.push(new Pair(str(from + 16 * i), str(from + 16 * i + 8)));
  return out;
}

// Writing: what is written must live until the call is over; `keep` holds it and is emptied when the next call begins.
let keep: ArrayBuffer[] = [];
export function begin(): void {
  keep = [];
}
export function room(size: i32): usize {
  const b = new ArrayBuffer(size);
  keep.push(b);
  return changetype<usize>(b);
}
export function putStr(at: usize, s: string): void {
  const b = String.UTF8.encode(s);
  keep.push(b);
  store<u32>(at, <u32>changetype<usize>(b));
  store<u32>(at + 4, b.byteLength);
}
export function putStrs(at: usize, list: string[]): void {
  const to = room(8 * list.length);
  for (let i = 0; i < list.length; i++) putStr(to + 8 * i, list[i]);
  store<u32>(at, <u32>to);
  store<u32>(at + 4, list.length);
}
export function putPairs(at: usize, list: Pair[]): void {
  const to = room(16 * list.length);
  for (let i = 0; i < list.length; i++) {
    putStr(to + 16 * i, list[i].name);
    putStr(to + 16 * i + 8, list[i].value);
  }
  store<u32>(at, <u32>to);
  store<u32>(at + 4, list.length);
}

/** A string or list in memory: a pointer and a length. */
@unmanaged
export class Slice {
  ptr: u32;
  len: u32;
}
export function slice(s: string): Slice {
  const at = room(8);
  putStr(at, s);
  return changetype<Slice>(at);
}

/** A name, and a value as JSON. */
export class Pair {
  constructor(
    public name: string,
    public value: string,
  ) {}
}

/** What the hub knows of an event besides its data. Null: there is none. */
export class Metadata {
  eventId: string;
  /** Microseconds since 1970. */
  timestamp: u64;
  correlationId: string | null;
  causationId: string | null;
  source: string | null;
  tags: string[];
  hops: u32;
  extensions: Pair[];
  constructor(at: usize) {
    this.eventId = str(at);
    this.timestamp = load<u64>(at + 8);
    this.correlationId = opt(at + 16);
    this.causationId = opt(at + 28);
    this.source = opt(at + 40);
    this.tags = strs(at + 52);
    this.hops = load<u32>(at + 60);
    this.extensions = pairs(at + 64);
  }
}

/** One event as it stands in the log. Offsets as in the records of types.wit: the parameters come in one block, because they are many. */
export class Event {
  seq: u64;
  type: string;
  /** JSON. */
  data: string;
  metadata: Metadata;
  constructor(at: usize) {
    this.seq = load<u64>(at);
    this.type = str(at + 8);
    this.data = str(at + 16);
    this.metadata = new Metadata(at + 24);
  }
}
/** Where the second parameter is. */
export const AFTER_EVENT: usize = 96;

@external("busway:plugin/logging@0.1.0", "log")
declare function logging_log(level: i32, message: usize, length: usize): void;

export enum Level {
  Trace,
  Debug,
  Info,
  Warn,
  Error,
}

/** One line for the operator. */
export function log(message: string, level: Level = Level.Info): void {
  const m = slice(message);
  logging_log(level, m.ptr, m.len);
}
