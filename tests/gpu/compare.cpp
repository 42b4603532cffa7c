#include "tests/gpu/compare.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "configs/base/error.h"
#include "data/files.h"
#include "eval/results/hdf5.h"

namespace depthroute {

namespace {

struct LoggedStep {
  int64_t step;
  double loss;
};

std::vector<LoggedStep> read_losses(const std::string& path) {
  std::vector<LoggedStep> steps;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || !object.contains("step"))
      throw DataError("{}: line {} is no line of metrics", path, steps.size() + 1);
    if (!object.contains("loss")) continue;  // a validation
    // JSON has no NaN: what is not a number was not finite.
    const double loss =
        object["loss"].is_number() ? object["loss"].get<double>() : std::numeric_limits<double>::quiet_NaN();
    steps.push_back({object["step"].get<int64_t>(), loss});
  }
  if (steps.empty()) throw DataError("{}: holds no training step", path);
  return steps;
}

/// Takes the larger one.
void take(Distance& distance, double figure, const std::string& where) {
  if (std::isnan(distance.figure) || figure <= distance.figure) return;  // a NaN is taken, and stays
  distance = {figure, where};
}

double difference(double a, double b, double unit) {
  if (std::isnan(a) && std::isnan(b)) return 0;
  return std::abs(a - b) / unit;
}

}  // namespace

Distance compare_losses(const std::string& path_a, const std::string& path_b, int64_t until) {
  const std::vector<LoggedStep> a = read_losses(path_a), b = read_losses(path_b);
  if (a.size() != b.size())
    throw DataError("{} has {} training steps, {} has {}", path_a, a.size(), path_b, b.size());
  Distance distance{0, "no step differs"};
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].step != b[i].step)
      throw DataError("{} has step {} where {} has step {}", path_a, a[i].step, path_b, b[i].step);
    if (until > 0 && a[i].step > until) break;
    // A loss that is not finite is no agreement, not even with another one.
    take(distance, std::abs(a[i].loss - b[i].loss), fmt::format("at step {}", a[i].step));
  }
  return distance;
}

Distance compare_mean_losses(const std::string& path_a, const std::string& path_b, int64_t count) {
  const auto mean = [count](const std::string& path) {
    const std::vector<LoggedStep> steps = read_losses(path);
    if (static_cast<int64_t>(steps.size()) < count)
      throw DataError("{} has {} training steps, fewer than {}", path, steps.size(), count);
    double total = 0;
    for (auto step = steps.end() - count; step != steps.end(); ++step) total += step->loss;
    return total / static_cast<double>(count);
  };
  const double a = mean(path_a), b = mean(path_b);
  return {std::abs(a - b), fmt::format("{:.4f} and {:.4f} over {} steps", a, b, count)};
}

Distance compare_results(const std::string& path_a, const std::string& path_b, bool tokens) {
  const Hdf5Reader a(path_a), b(path_b);
  const std::vector<std::string> cells = a.strings("/cell/cell");
  if (cells != b.strings("/cell/cell")) throw DataError("{} and {} have different cells", path_a, path_b);
  Distance distance{0, "nothing differs"};
  const auto compare = [&](const std::string& variable, bool of_cells) {
    const std::vector<double> left = a.doubles(variable), right = b.doubles(variable);
    if (a.shape(variable) != b.shape(variable))
      throw DataError("{} and {} have a {} of different shape", path_a, path_b, variable);
    for (size_t i = 0; i < left.size(); ++i)
      take(distance, difference(left[i], right[i], std::max(1.0, std::abs(right[i]))),
           of_cells ? fmt::format("{} of {}", variable, cells[i]) : fmt::format("{}[{}]", variable, i));
  };
  for (const char* variable : {"/cell/delta_nll", "/cell/kl", "/cell/mass"}) compare(variable, true);
  compare("/routing/mean", false);
  if (tokens) compare("/clean/nll", false);
  return distance;
}

}  // namespace depthroute
