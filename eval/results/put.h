// What the writers of groups share.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "eval/analysis/findings.h"
#include "eval/results/hdf5.h"

namespace depthroute {

inline constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

/// Returns get(item) for every item.
template <typename T, typename Items, typename Get>
std::vector<T> column(const Items& items, Get get) {
  std::vector<T> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(get(item));
  return values;
}

template <typename T>
void put(Hdf5Writer& file, const std::string& path, const std::vector<T>& values,
         const std::vector<std::string>& scales, const VariableInfo& info) {
  file.write<T>(path, values, scales, info);
}

/// Writes `path`, `path`_low and _high, which name level and method, and _se.
inline void put_estimates(Hdf5Writer& file, const std::string& path, const std::vector<Estimate>& estimates,
                          const std::vector<std::string>& scales, const VariableInfo& info, double level) {
  const auto part = [&](double Estimate::*which) {
    return column<double>(estimates, [&](const Estimate& estimate) { return estimate.*which; });
  };
  put(file, path, part(&Estimate::value), scales, info);
  put(file, path + "_low", part(&Estimate::low), scales,
      {info.units, info.long_name + ", lower end of its interval"});
  put(file, path + "_high", part(&Estimate::high), scales,
      {info.units, info.long_name + ", upper end of its interval"});
  put(file, path + "_se", part(&Estimate::standard_error), scales,
      {info.units, info.long_name + ", standard error"});
  for (const char* end : {"_low", "_high"}) {
    file.attribute(path + end, "level", level);
    file.attribute(path + end, "method", std::string("percentile cluster bootstrap over documents"));
  }
}

/// The estimates of one column, of cells or known answers.
inline std::vector<Estimate> rates(const std::vector<Effect>& effects, size_t which) {
  return column<Estimate>(effects, [&](const Effect& effect) { return effect.rates[which]; });
}

}  // namespace depthroute
