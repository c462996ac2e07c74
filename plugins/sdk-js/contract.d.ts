// What the host gives, as it is at run time in QuickJS: 64-bit integers are numbers (exact up to 2^53), none is null. In StarlingMonkey they
// are BigInt and undefined; event.ts and busway.ts make one of both. Errors are thrown with the error in `payload`.
declare module "busway:plugin/types@0.1.0" {
  /** JSON text. */
  export type Json = string;
  export interface Metadata {
    eventId: string;
    /** Microseconds since 1970. */
    timestamp: number;
    correlationId: string | null;
    causationId: string | null;
    source: string | null;
    tags: string[];
    hops: number;
    /** Name and JSON text. */
    extensions: [string, Json][];
  }
  export interface RawEvent {
    seq: number;
    type: string;
    data: Json;
    metadata: Metadata;
  }
}
declare module "busway:plugin/logging@0.1.0" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error";
  export function log(level: Level, message: string): void;
}
declare module "busway:plugin/config@0.1.0" {
  export function get(key: string): string | null;
}
declare module "busway:plugin/kv@0.1.0" {
  export function get(key: string): Uint8Array | null;
  export function set(key: string, value: Uint8Array): void;
  export { remove as delete };
  function remove(key: string): void;
  export function keys(prefix: string, after?: string): string[];
  export function increment(key: string, delta: number): number;
}
declare module "busway:plugin/publisher@0.1.0" {
  import type { Json } from "busway:plugin/types@0.1.0";
  export interface NewEvent {
    type: string;
    data: Json;
    tags: string[];
    correlationId?: string;
    extensions: [string, Json][];
  }
  export function publish(event: NewEvent): string;
}
