// Counts the orders of each customer, and publishes the count.
import { type Event, type Handler, kv, log, publish, reject } from "#busway";

export const about: Handler = {
  name: "my-plugin",
  version: "0.1.0",
  summary: "Counts the orders of each customer",
  subscriptions: ["order.placed"],
  emits: ["order.counted"],
  capabilities: ["publish", "kv"],
};

/** The data of an `order.placed`. */
interface Order {
  customer: string;
}

function isOrder(data: unknown): data is Order {
  return typeof (data as Order | null)?.customer === "string";
}

/** All or nothing: what it published and wrote counts only if it returns. */
export function handle(event: Event<unknown>, attempt: number): void {
  if (!isOrder(event.data)) throw reject(`expected {"customer": string}, found ${event.text}`);
  const { customer } = event.data;
  const orders = kv.increment(`orders/${customer}`);
  log.info(`order ${orders} of ${customer}`);
  publish("order.counted", { customer, orders });
}
