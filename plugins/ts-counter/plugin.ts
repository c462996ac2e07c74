// Counts task events, and publishes each with its number.
import { type Event, type Handler, PublishError, config, kv, log, publish, publishText, reject, retry } from "#busway";

export const about: Handler = {
  name: "ts-counter",
  version: "0.1.0",
  summary: "Counts task events",
  subscriptions: ["task.*"],
  emits: ["counter.counted"],
  capabilities: ["publish", "kv", "config"],
};

let calls = 0; // of this instance

export function handle(event: Event, attempt: number): void {
  calls += 1;
  if (event.type === "task.boom") throw retry("boom");
  if (event.type === "task.later") throw retry("later", 1500);
  if (event.type === "task.never") throw reject("never");
  if (event.type === "task.trap") for (;;); // nothing traps in JavaScript
  if (event.type === "task.bug") kv.set("bug", event.data.bytes);
  if (event.type === "task.probe") return probe(event, attempt);
  log.info(`handling ${event.type} ${event.metadata.eventId}, attempt ${attempt}, call ${calls}`);
  const count = kv.increment("count");
  // The data is JSON already: it is put in as it is, so that its numbers keep their digits.
  publishText("counter.counted", `{"from":${event.seq},"count":${count},"data":${event.text}}`, {
    tags: ["derived", ...event.metadata.tags],
    extensions: event.metadata.extensions,
  });
}

/** Uses all that the hub offers, and publishes what it saw. */
function probe(event: Event, attempt: number): void {
  log.trace(`probing ${event.type}`);
  log.error(`probed ${event.type}`);
  const published = publish("counter.counted", null, { correlationId: "its own" });

  for (const key of kv.keys("probe/")) kv.delete(key);
  kv.set("probe/1", "");
  kv.set("probe/ü", event.text);

  const { timestamp, correlationId, causationId, source, hops } = event.metadata;
  publish("counter.counted", {
    type: event.type,
    seq: event.seq,
    timestamp,
    correlation_id: correlationId,
    causation_id: causationId,
    source,
    hops,
    attempt,
    config: config("greeting"),
    published,
    invalid: isInvalid("no JSON"),
    kept: JSON.parse(kv.text("probe/ü")!),
    empty: kv.text("probe/1"),
    gone: kv.text("probe/old"),
    keys: kv.keys("probe/", "probe/1"),
  });
}

function isInvalid(data: string): boolean {
  try {
    publishText("counter.counted", data);
    return false;
  } catch (error) {
    return error instanceof PublishError && error.code === "invalid";
  }
}
