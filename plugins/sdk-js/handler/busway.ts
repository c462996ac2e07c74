// Write Busway handlers in JavaScript or TypeScript. A plugin exports `about` (a `Handler`) and `handle(event, attempt)`.
//
// What is published and written counts only if `handle` returns. `throw retry("…")` and `throw reject("…")` say what is to become of an
// event that was not handled; any other error is a retry with its text.
import { get as setting } from "busway:plugin/config@0.1.0";
import * as store from "busway:plugin/kv@0.1.0";
import { publish as send } from "busway:plugin/publisher@0.1.0";

import { decode, encode } from "./utf8";

export { Event, log, type Metadata } from "./event";

/** All that is given has to match; see `subscription` in the contract. */
export interface Subscription {
  eventTypes?: string[];
  sourcePatterns?: string[];
  requiredTags?: string[];
  excludedTags?: string[];
}

/** What the plugin is and wants. A subscription may be just a glob of event types. */
export interface Handler {
  name: string;
  version: string;
  summary: string;
  subscriptions: (string | Subscription)[];
  emits?: string[];
  capabilities?: ("publish" | "kv" | "config")[];
  hints?: Record<string, unknown>;
}

/** Why an event was not handled. */
export class Failure extends Error {
  constructor(
    readonly kind: "retry" | "reject",
    message: string,
    readonly afterMs?: number,
  ) {
    super(message);
  }
}
/** It may work later. */
export const retry = (message: string, afterMs?: number) => new Failure("retry", message, afterMs);
/** It will never work. */
export const reject = (message: string) => new Failure("reject", message);

/** Why the hub did not take an event. Not caught, it is a reject. */
export class PublishError extends Failure {
  constructor(
    readonly code: "denied" | "limit" | "invalid",
    message: string,
  ) {
    super("reject", message);
  }
}

export interface Options {
  tags?: string[];
  correlationId?: string;
  /** Name and JSON text. */
  extensions?: [string, string][];
}

/** Publishes an event with this data, and returns its id. A refusal is a `PublishError`. */
export function publish(type: string, data: unknown = null, options: Options = {}): string {
  return publishText(type, JSON.stringify(data), options);
}

/** The same with JSON text, which is published as it is. */
export function publishText(type: string, data: string, { tags = [], correlationId, extensions = [] }: Options = {}): string {
  try {
    return send({ type, data, tags, correlationId, extensions });
  } catch (error) {
    const { code, message } = payload<{ code: PublishError["code"]; message: string }>(error);
    throw new PublishError(code, message);
  }
}

/** A setting from the operator. */
export function config(key: string): string | null {
  return setting(key) ?? null;
}

/** Memory that outlives the call. A refusal is a retry. */
export const kv = {
  get: (key: string) => retried(() => store.get(key) ?? null),
  /** The value as text. */
  text: (key: string) => {
    const value = kv.get(key);
    return value && decode(value);
  },
  set: (key: string, value: Uint8Array | string) => retried(() => store.set(key, bytes(value))),
  delete: (key: string) => retried(() => store.delete(key)),
  keys: (prefix = "", after?: string) => retried(() => store.keys(prefix, after)),
  /** Adds to the number at the key, and returns the sum. */
  increment: (key: string, delta = 1) => retried(() => Number(store.increment(key, delta))),
};

function bytes(value: Uint8Array | string): Uint8Array {
  if (typeof value === "string") return encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`expected a Uint8Array or a string, found ${typeof value}`); // or it would be a trap
}

function retried<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw retry(payload<string>(error));
  }
}

/** What the host said. An error that is not the host's has none, and goes on as it is. */
function payload<T>(error: unknown): T {
  if (typeof error === "object" && error !== null && "payload" in error) return error.payload as T;
  throw error;
}
