// Counts task events, and publishes each with its number.
#include "busway.hpp"

busway::Description busway::describe() {
  return {
      .name = "cpp-counter",
      .version = "0.1.0",
      .summary = "Counts task events",
      .subscriptions = {{.event_types = {"task.*"}}},
      .emits = {"counter.counted"},
      .capabilities = {"publish", "kv"},
  };
}

std::expected<void, busway::Failure> busway::handle(const Event &event, std::uint32_t attempt) {
  if (event.type == "task.boom") return retry("boom");
  if (event.type == "task.never") return reject("never");
  if (event.type == "task.trap") std::abort();
  log(LOGGING_LEVEL_INFO, "handling " + std::string(event.event_id) + " attempt " + std::to_string(attempt));

  auto count = kv::increment("count");
  if (!count) return std::unexpected(count.error());

  NewEvent counted{.type = "counter.counted", .tags = {"derived"}};
  counted.data = "{\"from\":" + std::to_string(event.seq) + ",\"count\":" + std::to_string(*count) + ",\"data\":" + std::string(event.data) + "}";
  counted.tags.insert(counted.tags.end(), event.tags.begin(), event.tags.end());
  counted.extensions.assign(event.extensions.begin(), event.extensions.end());
  auto published = publish(counted);
  if (!published) return std::unexpected(published.error());
  return {};
}
