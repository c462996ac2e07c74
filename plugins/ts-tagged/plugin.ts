// Lets through the events that have a tag: `urgent`, or the one in its parameters.
import { type Event, type Filter, log, refuse } from "#busway";

export const about: Filter = {
  name: "ts-tagged",
  version: "0.1.0",
  summary: "True for events that have a tag",
  paramsSchema: { type: "object", properties: { tag: { default: "urgent" } } },
};

let calls = 0; // of this instance

export function matches(event: Event, { tag = "urgent" }: { tag?: unknown }): boolean {
  calls += 1;
  log.debug(`asking about ${event.type}, call ${calls}`);
  if (typeof tag !== "string") throw refuse(`params: expected {"tag": string}, found ${JSON.stringify(tag)}`);
  return event.metadata.tags.includes(tag);
}
