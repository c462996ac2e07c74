// Counts task events, and publishes each with its number.
#include "busway.hpp"

busway::Description busway::describe() {
  return {
      .name = "cpp-counter",
      .version = "0.1.0",
      .summary = "Counts task events",
      .subscriptions = {{.event_types = {"task.*"}}},
      .emits = {"counter.counted"},
      .capabilities = {"publish", "kv", "config"},
  };
}

static std::expected<void, busway::Failure> probe(const busway::Event &event, std::uint32_t attempt);

static unsigned calls; // of this instance

std::expected<void, busway::Failure> busway::handle(const Event &event, std::uint32_t attempt) {
  calls++;
  if (event.type == "task.boom") return retry("boom");
  if (event.type == "task.later") return retry("later", 1500);
  if (event.type == "task.never") return reject("never");
  if (event.type == "task.trap") std::abort();
  if (event.type == "task.probe") return probe(event, attempt);
  log(LOGGING_LEVEL_INFO, "handling " + std::string(event.type) + " " + std::string(event.event_id) + ", attempt " + std::to_string(attempt) +
                              ", call " + std::to_string(calls));

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

// JSON: a text, or null.
static std::string quote(std::optional<std::string_view> text) { return text ? busway::json::quote(*text) : "null"; }

// Puts these texts at `probe/1` and `probe/ü`, and nothing else below `probe/`.
static std::expected<void, busway::Failure> remember(std::string_view first, std::string_view second) {
  auto old = busway::kv::keys("probe/");
  if (!old) return std::unexpected(old.error());
  for (auto &key : *old)
    if (auto removed = busway::kv::remove(key); !removed) return removed;
  return busway::kv::set("probe/1", first).and_then([&] { return busway::kv::set("probe/ü", second); });
}

// Uses all that the hub offers, and publishes what it saw.
static std::expected<void, busway::Failure> probe(const busway::Event &event, std::uint32_t attempt) {
  busway::log(LOGGING_LEVEL_TRACE, "probing " + std::string(event.type));
  busway::log(LOGGING_LEVEL_ERROR, "probed " + std::string(event.type));
  auto published = busway::publish({.type = "counter.counted", .correlation_id = "its own"});
  if (!published) return std::unexpected(published.error());
  auto refused = busway::publish({.type = "counter.counted", .data = "no JSON"});
  bool invalid = !refused && refused.error().code == PUBLISHER_PUBLISH_CODE_INVALID;

  if (auto done = remember("", event.data); !done) return done;
  auto kept = busway::kv::get("probe/ü"), empty = busway::kv::get("probe/1"), gone = busway::kv::get("probe/old");
  auto keys = busway::kv::keys("probe/", "probe/1");
  if (!kept || !*kept || !empty || !gone || !keys) return busway::retry("what was just written is not there");

  std::string listed;
  for (auto &key : *keys) listed += (listed.empty() ? "" : ",") + busway::json::quote(key);
  auto data = "{\"type\":" + quote(event.type) + ",\"seq\":" + std::to_string(event.seq) + ",\"timestamp\":" + std::to_string(event.timestamp) +
              ",\"correlation_id\":" + quote(event.correlation_id) + ",\"causation_id\":" + quote(event.causation_id) +
              ",\"source\":" + quote(event.source) + ",\"hops\":" + std::to_string(event.hops) + ",\"attempt\":" + std::to_string(attempt) +
              ",\"config\":" + quote(busway::config("greeting")) + ",\"published\":" + quote(*published) +
              ",\"invalid\":" + (invalid ? "true" : "false") + ",\"kept\":" + **kept + ",\"empty\":" + quote(*empty) +
              ",\"gone\":" + quote(*gone) + ",\"keys\":[" + listed + "]}";
  auto told = busway::publish({.type = "counter.counted", .data = data});
  if (!told) return std::unexpected(told.error());
  return {};
}
