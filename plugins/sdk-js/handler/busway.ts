// Write Busway handlers in JavaScript or TypeScript. A plugin exports `about` (a `Handler`) and `handle(event, attempt)`.
//
// What is published and written counts only if `handle` returns. `throw retry("…")` and `throw reject("…")` say what is to become of an
// event that was not handled; any other error is a retry with its text.
import { get as setting } from "busway:plugin/config@0.1.0";
import * as store from "busway:plugin/kv@0.1.0";
import { publish as send } from "busway:plugin/publisher@0.1.0";

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

export interface Options {
  tags?: string[];
  correlationId?: string;
  /** Name and JSON text. */
  extensions?: [string, string][];
}

/** Publishes an event with this data, and returns its id. A refusal is a reject. */
export function publish(type: string, data: unknown = null, options: Options = {}): string {
  return publishText(type, JSON.stringify(data), options);
}

/** The same with JSON text, which is published as it is. */
export function publishText(type: string, data: string, { tags = [], correlationId, extensions = [] }: Options = {}): string {
  try {
    return send({ type, data, tags, correlationId, extensions });
  } catch (error) {
    throw reject((error as { payload: { message: string } }).payload.message);
  }
}

/** A setting from the operator. */
export function config(key: string): string | null {
  return setting(key);
}

/** Memory that outlives the call. A refusal is a retry. */
export const kv = {
  get: (key: string) => retried(() => store.get(key)),
  set: (key: string, value: Uint8Array) => retried(() => store.set(key, value)),
  delete: (key: string) => retried(() => store.delete(key)),
  keys: (prefix = "", after?: string) => retried(() => store.keys(prefix, after)),
  /** Adds to the number at the key, and returns the sum. */
  increment: (key: string, delta = 1) => retried(() => store.increment(key, delta)),
};

function retried<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw retry((error as { payload: string }).payload);
  }
}
