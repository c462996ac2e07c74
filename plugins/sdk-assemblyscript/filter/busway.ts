// Write Busway filters in AssemblyScript. A plugin exports `describe(): Description` and `matches(event: Event, params: string): Answer`.
import { Pair } from "./abi";
import * as json from "./json";
export { Event, Level, Metadata, Pair, log } from "./abi";
export { json };

/** What the plugin is. */
export class Description {
  /** JSON Schema; null: it takes no parameters. */
  paramsSchema: string | null = null;
  hints: Pair[] = [];
  constructor(
    public name: string,
    public version: string,
    public summary: string,
  ) {}
}

/** Whether the event passes, or why there is no answer. */
export class Answer {
  constructor(
    public passes: bool,
    public error: string | null = null,
  ) {}
}
/** Where it is the fault of the parameters, begin with "params: ". */
export function refuse(message: string): Answer {
  return new Answer(false, message);
}
