// Counts task events, and publishes each with its number.
import { type Event, type Handler, kv, log, publishText, reject, retry } from "#busway";

export const about: Handler = {
  name: "ts-counter",
  version: "0.1.0",
  summary: "Counts task events",
  subscriptions: ["task.*"],
  emits: ["counter.counted"],
  capabilities: ["publish", "kv"],
};

export function handle(event: Event, attempt: number): void {
  if (event.type === "task.boom") throw retry("boom");
  if (event.type === "task.never") throw reject("never");
  if (event.type === "task.trap") for (;;); // nothing traps in JavaScript
  if (event.type === "task.bug") event.data.nothing.of.the.kind;
  log.info(`handling ${event.metadata.eventId} attempt ${attempt}`);
  const count = kv.increment("count");
  // The data is JSON already: it is put in as it is, so that its numbers keep their digits.
  publishText("counter.counted", `{"from":${event.seq},"count":${count},"data":${event.text}}`, {
    tags: ["derived", ...event.metadata.tags],
    extensions: event.metadata.extensions,
  });
}
