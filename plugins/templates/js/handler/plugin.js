// Counts the orders of each customer, and publishes the count.
import { kv, log, publish, reject } from "#busway";

/** @type {import("#busway").Handler} */
export const about = {
  name: "my-plugin",
  version: "0.1.0",
  summary: "Counts the orders of each customer",
  subscriptions: ["order.placed"],
  emits: ["order.counted"],
  capabilities: ["publish", "kv"],
};

/**
 * All or nothing: what it published and wrote counts only if it returns.
 *
 * @param {import("#busway").Event<{ customer: string } | null>} event
 * @param {number} attempt
 */
export function handle(event, attempt) {
  const customer = event.data?.customer;
  if (typeof customer !== "string") throw reject(`expected {"customer": string}, found ${event.text}`);
  const orders = kv.increment(`orders/${customer}`);
  log.info(`order ${orders} of ${customer}`);
  publish("order.counted", { customer, orders });
}
