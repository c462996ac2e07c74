// Lets through orders from a given total on.
import { refuse } from "#busway";

/** @type {import("#busway").Filter} */
export const about = {
  name: "my-plugin",
  version: "0.1.0",
  summary: "True for orders of at least `min`",
  paramsSchema: { type: "object", properties: { min: { type: "number", default: 100 } } },
};

/**
 * @param {import("#busway").Event<{ total?: number } | null>} event
 * @param {{ min?: number }} params
 */
export function matches(event, { min = 100 }) {
  if (typeof min !== "number") throw refuse(`params: expected {"min": number}, found ${JSON.stringify(min)}`);
  const total = event.data?.total;
  return typeof total === "number" && total >= min;
}
