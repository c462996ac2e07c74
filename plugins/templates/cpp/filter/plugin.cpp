// Lets through orders from a given total on.
#include "busway.hpp"

busway::Description busway::describe() {
  return {
      .name = "my-plugin",
      .version = "0.1.0",
      .summary = "True for orders of at least `min`",
      .params_schema = R"({"type":"object","properties":{"min":{"type":"number","default":100}}})",
  };
}

// What the one who asks may give.
struct Params {
  double min = 100;
};

static std::expected<Params, std::string> read_params(std::string_view json) {
  if (busway::json::is_object(json) && !busway::json::has(json, "min")) return Params{};
  if (auto min = busway::json::number(json, "min")) return Params{*min};
  return std::unexpected("params: expected {\"min\": number}, found " + std::string(json));
}

std::expected<bool, std::string> busway::matches(const Event &event, std::string_view given) {
  auto params = read_params(given);
  if (!params) return std::unexpected(params.error());
  auto total = json::number(event.data, "total");
  return total && *total >= params->min;
}
