// Counts the orders of each customer, and publishes the count.
import { Description, Event, Failure, NewEvent, Subscription, json, kv, log, publish, reject } from "./.busway/sdk/busway";

export function describe(): Description {
  const about = new Description("my-plugin", "0.1.0", "Counts the orders of each customer");
  about.subscriptions = [new Subscription(["order.placed"])];
  about.emits = ["order.counted"];
  about.capabilities = ["publish", "kv"];
  return about;
}

/** The data of an `order.placed`. */
class Order {
  constructor(public customer: string) {}

  static read(data: string): Order | null {
    const customer = json.text(json.member(data, "customer"));
    return customer === null ? null : new Order(customer);
  }
}

/** All or nothing: what it published and wrote counts only if it returns null. */
export function handle(event: Event, attempt: u32): Failure | null {
  const order = Order.read(event.data);
  if (order === null) return reject('expected {"customer": string}, found ' + event.data);

  const orders = kv.increment("orders/" + order.customer);
  if (orders.failure) return orders.failure;
  log(`order ${orders.value} of ${order.customer}`);

  return publish(new NewEvent("order.counted", `{"customer":${json.quote(order.customer)},"orders":${orders.value}}`)).failure;
}
