/// <reference path="./contract.d.ts" />
// What handlers and filters have in common. Import it from "#busway".
import { log as write, type Level } from "busway:plugin/logging@0.1.0";
import type { Metadata, RawEvent } from "busway:plugin/types@0.1.0";

export type { Metadata };

/** One event as it stands in the log. */
export class Event<Data = any> {
  readonly seq: number;
  readonly type: string;
  /** The data as JSON, exactly as it was published. */
  readonly text: string;
  readonly metadata: Metadata;
  #data: Data | undefined;

  constructor(event: RawEvent) {
    const { timestamp, correlationId, causationId, source, hops, ...metadata } = event.metadata;
    this.seq = Number(event.seq);
    this.type = event.type;
    this.text = event.data;
    this.metadata = {
      ...metadata,
      timestamp: Number(timestamp),
      correlationId: correlationId ?? null,
      causationId: causationId ?? null,
      source: source ?? null,
      hops: hops >>> 0, // QuickJS takes 32 bits for signed
    };
  }

  /** The data read from JSON. */
  get data(): Data {
    return (this.#data ??= JSON.parse(this.text));
  }
}

/** One line for the operator: `log.info("…")`. */
export const log = Object.fromEntries(
  (["trace", "debug", "info", "warn", "error"] as const).map((level) => [level, (line: string) => write(level, line)]),
) as Record<Level, (line: string) => void>;

/** What it was and where: all that the operator will see of it. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const where = error.stack?.split("\n")[0]?.trim();
  return where ? `${error} ${where}` : String(error);
}

/** A call is over when the plugin's function returns: what it would do later is never done. */
export function isPromise(given: unknown): boolean {
  return typeof (given as { then?: unknown } | null | undefined)?.then === "function";
}
export const noPromise = (name: string) => `expected a plain function, found an async one: nobody waits for the promise of ${name}`;

/** A JavaScript instance starts slowly: unless the plugin says otherwise, it is kept. */
export function hints(values: Record<string, unknown> = {}): [string, string][] {
  return Object.entries({ isolation: "reuse", ...values }).map(([name, value]) => [name, JSON.stringify(value)]);
}
