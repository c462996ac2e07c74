// Lets through the events that have a tag: `urgent`, or the one in its parameters.
import { Answer, Description, Event, Level, json, log, refuse } from "./.busway/sdk/busway";

export function describe(): Description {
  const about = new Description("assemblyscript-tagged", "0.1.0", "True for events that have a tag");
  about.paramsSchema = '{"type":"object","properties":{"tag":{"default":"urgent"}}}';
  return about;
}

let calls = 0; // of this instance

export function matches(event: Event, params: string): Answer {
  calls++;
  log(`asking about ${event.type}, call ${calls}`, Level.Debug);
  const given = json.member(params, "tag");
  const tag = given === null ? "urgent" : json.text(given);
  if (tag === null || !json.isObject(params)) return refuse('params: expected {"tag": string}, found ' + params);
  return new Answer(event.metadata.tags.includes(tag));
}
