// Counts the orders of each customer, and publishes the count.
#include "busway_plugin.h"
#include <inttypes.h>
#include <stdlib.h>

void describe(exports_handler_description_t *about) {
  about->name = bw_copy("my-plugin");
  about->version = bw_copy("0.1.0");
  about->summary = bw_copy("Counts the orders of each customer");
  about->subscriptions = BW_SUBSCRIBE("order.placed");
  about->emits = BW_LIST("order.counted");
  about->capabilities = BW_LIST("publish", "kv");
}

// The data of an `order.placed`.
typedef struct {
  busway_string_t customer; // to be freed
} order_t;

static bool read_order(busway_string_t data, order_t *order) {
  busway_string_t value;
  return bw_json_member(data, "customer", &value) && bw_json_string(value, &order->customer);
}

// All or nothing: what it published and wrote counts only if it returns true.
bool handle(const busway_event_t *event, uint32_t attempt, busway_failure_t *failure) {
  (void)attempt;
  order_t order;
  if (!read_order(event->data, &order)) return bw_reject(failure, "expected {\"customer\": string}, found %.*s", BW_TEXT(event->data));

  int64_t count;
  busway_string_t key = bw_format("orders/%.*s", BW_TEXT(order.customer));
  bool ok = bw_increment(key, 1, &count, failure);
  if (ok) {
    bw_log(LOGGING_LEVEL_INFO, "order %" PRId64 " of %.*s", count, BW_TEXT(order.customer));
    busway_string_t customer = bw_json_quote(order.customer);
    busway_string_t data = bw_format("{\"customer\":%.*s,\"orders\":%" PRId64 "}", BW_TEXT(customer), count);
    ok = bw_publish("order.counted", data, failure);
    free(customer.ptr);
  }
  free(key.ptr);
  free(order.customer.ptr);
  return ok;
}
