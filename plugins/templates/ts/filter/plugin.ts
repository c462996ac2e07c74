// Lets through orders from a given total on.
import { type Event, type Filter, refuse } from "#busway";

export const about: Filter = {
  name: "my-plugin",
  version: "0.1.0",
  summary: "True for orders of at least `min`",
  paramsSchema: { type: "object", properties: { min: { type: "number", default: 100 } } },
};

/** The data of an `order.placed`. */
interface Order {
  total?: unknown;
}

export function matches(event: Event<Order | null>, { min = 100 }: { min?: number }): boolean {
  if (typeof min !== "number") throw refuse(`params: expected {"min": number}, found ${JSON.stringify(min)}`);
  const total = event.data?.total;
  return typeof total === "number" && total >= min;
}
