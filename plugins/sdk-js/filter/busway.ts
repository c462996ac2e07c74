// Write Busway filters in JavaScript or TypeScript. A plugin exports `about` (a `Filter`) and `matches(event, params)`.
//
// A thrown error says why there is no answer; where it is the fault of the parameters, begin its message with "params: ".
export { Event, log, type Metadata } from "./event";

/** What the plugin is. Parameters that were not given are {}. */
export interface Filter {
  name: string;
  version: string;
  summary: string;
  paramsSchema?: object;
  hints?: Record<string, unknown>;
}

/** There is no answer. */
export class Refusal extends Error {}
export const refuse = (message: string) => new Refusal(message);
