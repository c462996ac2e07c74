"""Counts the orders of each customer, and publishes the count."""

from dataclasses import dataclass
from typing import Any

from busway import Event, Handler, Reject, kv, log, publish

about = Handler(
    name="my-plugin",
    version="0.1.0",
    summary="Counts the orders of each customer",
    subscriptions=["order.placed"],
    emits=["order.counted"],
    capabilities=["publish", "kv"],
)


@dataclass
class Order:
    """The data of an `order.placed`."""

    customer: str

    @staticmethod
    def read(data: Any) -> "Order":
        match data:
            case {"customer": str(customer)}:
                return Order(customer)
        raise Reject(f'expected {{"customer": string}}, found {data}')


def handle(event: Event, attempt: int) -> None:
    """All or nothing: what it published and wrote counts only if it returns."""
    order = Order.read(event.data)
    orders = kv.increment(f"orders/{order.customer}")
    log.info(f"order {orders} of {order.customer}")
    publish("order.counted", {"customer": order.customer, "orders": orders})
