// Lets through the events that have a tag: `urgent`, or the one in its parameters.
#include "busway.hpp"
#include <algorithm>

busway::Description busway::describe() {
  return {
      .name = "cpp-tagged",
      .version = "0.1.0",
      .summary = "True for events that have a tag",
      .params_schema = R"({"type":"object","properties":{"tag":{"default":"urgent"}}})",
  };
}

static unsigned calls; // of this instance

std::expected<bool, std::string> busway::matches(const Event &event, std::string_view params) {
  log(LOGGING_LEVEL_DEBUG, "asking about " + std::string(event.type) + ", call " + std::to_string(++calls));
  auto tag = json::has(params, "tag") ? json::text(params, "tag") : std::optional<std::string>("urgent");
  if (!tag || !json::is_object(params)) return std::unexpected("params: expected {\"tag\": string}, found " + std::string(params));
  return std::ranges::contains(event.tags, *tag);
}
