// Write Busway handlers in AssemblyScript. A plugin exports `describe(): Description` and `handle(event: Event, attempt: u32): Failure | null`.
//
// What is published and written counts only if `handle` returns null. There are no exceptions: what can fail returns a Failure.
import { Pair, Slice, opt, putPairs, putStrs, room, slice, str, strs } from "./abi";
import * as json from "./json";
export { Event, Level, Metadata, Pair, log } from "./abi";
export { json };

@external("busway:plugin/kv@0.1.0", "get")
declare function kv_get(key: usize, keyLen: usize, ret: usize): void;
@external("busway:plugin/kv@0.1.0", "set")
declare function kv_set(key: usize, keyLen: usize, value: usize, valueLen: usize, ret: usize): void;
@external("busway:plugin/kv@0.1.0", "delete")
declare function kv_delete(key: usize, keyLen: usize, ret: usize): void;
@external("busway:plugin/kv@0.1.0", "keys")
declare function kv_keys(prefix: usize, prefixLen: usize, hasAfter: i32, after: usize, afterLen: usize, ret: usize): void;
@external("busway:plugin/kv@0.1.0", "increment")
declare function kv_increment(key: usize, keyLen: usize, delta: i32, ret: usize): void;
@external("busway:plugin/config@0.1.0", "get")
declare function config_get(key: usize, keyLen: usize, ret: usize): void;
@external("busway:plugin/publisher@0.1.0", "publish")
declare function publisher_publish(type: usize, typeLen: usize, data: usize, dataLen: usize, tags: usize, tagsLen: usize,
  hasCorrelation: i32, correlation: usize, correlationLen: usize, extensions: usize, extensionsLen: usize, ret: usize): void;

/** Why an event was not handled. */
export class Failure {
  constructor(
    public rejected: bool,
    public message: string,
    /** Milliseconds; less than 0: the hub's own pause. */
    public afterMs: i64 = -1,
  ) {}
}
/** It may work later, but not before so many milliseconds have passed. */
export function retry(message: string, afterMs: i64 = -1): Failure {
  return new Failure(false, message, afterMs);
}
/** It will never work. */
export function reject(message: string): Failure {
  return new Failure(true, message);
}

/** Which events it wants; all that is given has to match. */
export class Subscription {
  sourcePatterns: string[] = [];
  requiredTags: string[] = [];
  excludedTags: string[] = [];
  constructor(public eventTypes: string[]) {}
}

/** What the plugin is and wants. */
export class Description {
  subscriptions: Subscription[] = [];
  emits: string[] = [];
  capabilities: string[] = [];
  hints: Pair[] = [];
  constructor(
    public name: string,
    public version: string,
    public summary: string,
  ) {}
}

/** An event to publish. */
export class NewEvent {
  tags: string[] = [];
  correlationId: string | null = null;
  extensions: Pair[] = [];
  constructor(
    public type: string,
    /** JSON. */
    public data: string,
  ) {}
}

/** Which kind of refusal. */
export enum PublishCode {
  None = -1,
  Denied,
  Limit,
  Invalid,
}
/** The id that an event will have, or why it was not taken. */
export class Published {
  constructor(
    public id: string,
    public failure: Failure | null = null,
    public code: PublishCode = PublishCode.None,
  ) {}
}

/** Publishes an event. A refusal is a reject. */
export function publish(event: NewEvent): Published {
  const ret = room(16), t = slice(event.type), d = slice(event.data), lists = room(16), id = event.correlationId;
  putStrs(lists, event.tags);
  putPairs(lists + 8, event.extensions);
  const g = changetype<Slice>(lists), x = changetype<Slice>(lists + 8), c = slice(id === null ? "" : id);
  publisher_publish(t.ptr, t.len, d.ptr, d.len, g.ptr, g.len, i32(id !== null), c.ptr, c.len, x.ptr, x.len, ret);
  // result<string, publish-error>: tag, then the id at 4, or code at 4 and text at 8
  return load<u8>(ret) ? new Published("", reject(str(ret + 8)), load<u8>(ret, 4)) : new Published(str(ret + 4));
}

/** A setting from the operator; null: not set, or not granted. */
export function config(key: string): string | null {
  const ret = room(12), k = slice(key);
  config_get(k.ptr, k.len, ret);
  return opt(ret);
}

/** What an import gave, or why it gave nothing. */
export class Outcome<T> {
  constructor(
    public value: T,
    public failure: Failure | null = null,
  ) {}
}

/** Memory that outlives the call, here for texts. A refusal is a retry. */
export namespace kv {
  export function get(key: string): Outcome<string | null> {
    const ret = room(16), k = slice(key);
    kv_get(k.ptr, k.len, ret); // result<option<list<u8>>, string>: tag, then the option or the text at 4
    if (load<u8>(ret)) return new Outcome<string | null>(null, retry(str(ret + 4)));
    return new Outcome<string | null>(opt(ret + 4));
  }

  export function set(key: string, value: string): Failure | null {
    const ret = room(12), k = slice(key), v = slice(value);
    kv_set(k.ptr, k.len, v.ptr, v.len, ret);
    return load<u8>(ret) ? retry(str(ret + 4)) : null;
  }

  export function remove(key: string): Failure | null {
    const ret = room(12), k = slice(key);
    kv_delete(k.ptr, k.len, ret);
    return load<u8>(ret) ? retry(str(ret + 4)) : null;
  }

  /** Those that begin with the prefix, in the order of their bytes, after `after` (null: from the first); at most 1,000. */
  export function keys(prefix: string = "", after: string | null = null): Outcome<string[]> {
    const ret = room(12), p = slice(prefix), a = slice(after === null ? "" : after);
    kv_keys(p.ptr, p.len, i32(after !== null), a.ptr, a.len, ret); // result<list<string>, string>: tag, then the list or the text at 4
    return load<u8>(ret) ? new Outcome<string[]>([], retry(str(ret + 4))) : new Outcome<string[]>(strs(ret + 4));
  }

  /** Adds to the number at the key, and gives the sum. */
  export function increment(key: string, delta: i32 = 1): Outcome<i64> {
    const ret = room(16), k = slice(key);
    kv_increment(k.ptr, k.len, delta, ret); // result<s64, string>: tag, then the sum or the text at 8
    return load<u8>(ret) ? new Outcome<i64>(0, retry(str(ret + 8))) : new Outcome<i64>(load<i64>(ret, 8));
  }
}
