// Write Busway plugins in C++. A plugin defines `busway::describe`, and `busway::handle` (a handler) or `busway::matches` (a filter). What the
// fields mean stands in ../wit.
#pragma once
#include "busway_plugin.h"
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace busway {

// An event as it stands in the log. Its texts are gone after the call.
struct Event {
  std::uint64_t seq;
  std::string_view type;
  std::string_view data; // JSON
  std::string_view event_id;
  std::uint64_t timestamp; // microseconds since 1970
  std::optional<std::string_view> correlation_id, causation_id, source;
  std::vector<std::string_view> tags;
  std::uint32_t hops;
  std::vector<std::pair<std::string_view, std::string_view>> extensions; // name and JSON
};

using Hints = std::vector<std::pair<std::string, std::string>>; // name and JSON

// JSON, enough to read an object's members and to write texts; link a library for more.
namespace json {
std::optional<std::string> text(std::string_view object, const char *member);
std::optional<double> number(std::string_view object, const char *member);
bool is_object(std::string_view json);
bool has(std::string_view object, const char *member);
std::string quote(std::string_view text); // "…", with escapes
} // namespace json

void log(logging_level_t level, std::string_view line); // LOGGING_LEVEL_INFO …

#ifdef BUSWAY_HANDLER
struct Subscription {
  std::vector<std::string> event_types, source_patterns, required_tags, excluded_tags;
};

struct Description {
  std::string name, version, summary;
  std::vector<Subscription> subscriptions;
  std::vector<std::string> emits, capabilities;
  Hints hints = {};
};

// Why an event was not handled.
struct Failure {
  busway_failure_kind_t kind;
  std::string message;
  std::optional<std::uint32_t> retry_after_ms = {};
};
// It may work later; with `after_ms`, not before so many milliseconds have passed.
inline std::unexpected<Failure> retry(std::string message, std::optional<std::uint32_t> after_ms = {}) {
  return std::unexpected(Failure{BUSWAY_FAILURE_KIND_RETRY, std::move(message), after_ms});
}
// It will never work.
inline std::unexpected<Failure> reject(std::string message) { return std::unexpected(Failure{BUSWAY_FAILURE_KIND_REJECT, std::move(message)}); }

struct NewEvent {
  std::string type;
  std::string data = "null"; // JSON
  std::vector<std::string> tags = {};
  std::optional<std::string> correlation_id = {};
  std::vector<std::pair<std::string, std::string>> extensions = {}; // name and JSON
};
// Why an event was not taken: PUBLISHER_PUBLISH_CODE_DENIED, …_LIMIT, …_INVALID. Handed on, it is a reject.
struct PublishError : Failure {
  publisher_publish_code_t code;
};
std::expected<std::string, PublishError> publish(const NewEvent &event); // the id that it will have
std::optional<std::string> config(std::string_view key);

namespace kv { // a refusal is a retry
std::expected<std::optional<std::string>, Failure> get(std::string_view key);
std::expected<void, Failure> set(std::string_view key, std::string_view value);
std::expected<void, Failure> remove(std::string_view key);
// Those that begin with the prefix, after `after`, in the order of their bytes; at most 1,000.
std::expected<std::vector<std::string>, Failure> keys(std::string_view prefix = "", std::optional<std::string_view> after = {});
std::expected<std::int64_t, Failure> increment(std::string_view key, std::int32_t delta = 1);
} // namespace kv

// For you to define. What is published and written counts only if `handle` returns no failure.
Description describe();
std::expected<void, Failure> handle(const Event &event, std::uint32_t attempt);
#endif

#ifdef BUSWAY_FILTER
struct Description {
  std::string name, version, summary;
  std::optional<std::string> params_schema = {};
  Hints hints = {};
};

// For you to define. `params` is {} if none were given; an error about them begins with "params: ".
Description describe();
std::expected<bool, std::string> matches(const Event &event, std::string_view params);
#endif

} // namespace busway
