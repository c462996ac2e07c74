// Counts the orders of each customer, and publishes the count.
#include "busway.hpp"

busway::Description busway::describe() {
  return {
      .name = "my-plugin",
      .version = "0.1.0",
      .summary = "Counts the orders of each customer",
      .subscriptions = {{.event_types = {"order.placed"}}},
      .emits = {"order.counted"},
      .capabilities = {"publish", "kv"},
  };
}

// The data of an `order.placed`.
struct Order {
  std::string customer;
};

static std::expected<Order, busway::Failure> read_order(std::string_view data) {
  auto customer = busway::json::text(data, "customer");
  if (!customer) return busway::reject("expected {\"customer\": string}, found " + std::string(data));
  return Order{*customer};
}

// All or nothing: what it published and wrote counts only if it returns no failure.
std::expected<void, busway::Failure> busway::handle(const Event &event, std::uint32_t) {
  auto order = read_order(event.data);
  if (!order) return std::unexpected(order.error());

  auto count = kv::increment("orders/" + order->customer);
  if (!count) return std::unexpected(count.error());
  auto number = std::to_string(*count);
  log(LOGGING_LEVEL_INFO, "order " + number + " of " + order->customer);

  auto data = "{\"customer\":" + json::quote(order->customer) + ",\"orders\":" + number + "}";
  auto published = publish({.type = "order.counted", .data = data});
  if (!published) return std::unexpected(published.error());
  return {};
}
