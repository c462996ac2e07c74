// Lets through orders from a given total on.
import { Answer, Description, Event, json, refuse } from "./.busway/sdk/busway";

export function describe(): Description {
  const about = new Description("my-plugin", "0.1.0", "True for orders of at least `min`");
  about.paramsSchema = '{"type":"object","properties":{"min":{"type":"number","default":100}}}';
  return about;
}

export function matches(event: Event, params: string): Answer {
  const given = json.member(params, "min");
  const min = given === null ? 100 : json.number(given);
  if (isNaN(min) || !json.isObject(params)) return refuse('params: expected {"min": number}, found ' + params);
  const total = json.number(json.member(event.data, "total"));
  return new Answer(!isNaN(total) && total >= min);
}
