#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"
#include "tools/convert/inspect.h"
#include "tools/convert/model_source.h"

namespace depthroute {
namespace {

constexpr int64_t kChunk = int64_t{1} << 18;  // values at a time

std::string stored_dtype(const TensorToWrite& tensor) { return tensor.entry ? tensor.entry->dtype : "F32"; }

/// Elements from `first` on, as float32.
void read_part(const TensorToWrite& tensor, int64_t first, std::span<float> out) {
  if (tensor.file)
    tensor.file->read_float(*tensor.entry, out, first);
  else
    std::copy_n(tensor.values.begin() + first, out.size(), out.begin());
}

struct Distance {
  int64_t differing = 0, all = 0;         // values
  double largest = 0, largest_value = 0;  // |a - b| and |a|
};

Distance distance_of(const TensorToWrite& one, const TensorToWrite& other) {
  Distance distance;
  distance.all = 1;
  for (const int64_t size : one.shape) distance.all *= size;
  std::vector<float> a, b;
  for (int64_t first = 0; first < distance.all; first += kChunk) {
    const auto size = static_cast<size_t>(std::min(kChunk, distance.all - first));
    a.resize(size);
    b.resize(size);
    read_part(one, first, a);
    read_part(other, first, b);
    for (size_t i = 0; i < size; ++i) {
      distance.largest_value = std::fmax(distance.largest_value, std::fabs(double{a[i]}));
      if (std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i])) continue;
      ++distance.differing;
      const double apart = std::fabs(double{a[i]} - double{b[i]});
      distance.largest =
          std::isnan(apart) ? std::numeric_limits<double>::infinity() : std::fmax(distance.largest, apart);
    }
  }
  return distance;
}

void compare_keys(const ModelSource& one, const ModelSource& other, Difference& result) {
  const auto read = [](const ModelSource& source) {
    return nlohmann::json::parse(read_file(source.folder() + "/config.json"));
  };
  const nlohmann::json a = read(one), b = read(other);
  std::set<std::string> keys;
  for (const nlohmann::json* root : {&a, &b})
    for (const auto& [key, value] : root->items()) keys.insert(key);
  const auto text = [](const nlohmann::json& root, const std::string& key) {
    return root.contains(key) ? root.at(key).dump() : "absent";
  };
  for (const std::string& key : keys) {
    if (text(a, key) == text(b, key)) continue;
    result.equal = false;
    result.text += fmt::format("config.json {}: {} | {}\n", key, text(a, key), text(b, key));
  }
}

void compare_tensors(const ModelSource& one, const ModelSource& other, bool weights_only,
                     Difference& result) {
  const std::vector<TensorToWrite> left = one.tensors(), right = other.tensors();
  std::map<std::string, const TensorToWrite*> by_name;
  for (const TensorToWrite& tensor : right) by_name[tensor.name] = &tensor;
  const auto differs = [&](std::string line) {
    result.equal = false;
    result.text += line + "\n";
  };
  int64_t compared = 0, different = 0;
  for (const TensorToWrite& a : left) {
    const auto found = by_name.find(a.name);
    if (found == by_name.end()) {
      differs(fmt::format("{}: only in {}", a.name, one.folder()));
      continue;
    }
    const TensorToWrite& b = *found->second;
    by_name.erase(found);
    ++compared;
    if (a.shape != b.shape) {
      differs(
          fmt::format("{}: shape [{}] | [{}]", a.name, fmt::join(a.shape, ", "), fmt::join(b.shape, ", ")));
      ++different;
      continue;
    }
    if (!weights_only && stored_dtype(a) != stored_dtype(b))
      differs(fmt::format("{}: stored as {} | {}", a.name, stored_dtype(a), stored_dtype(b)));
    const Distance distance = distance_of(a, b);
    if (distance.differing == 0) continue;
    ++different;
    differs(fmt::format("{}: {} of {} values differ, by at most {:.3g}, {:.3g} of the largest", a.name,
                        distance.differing, distance.all, distance.largest,
                        distance.largest / distance.largest_value));
  }
  for (const auto& [name, tensor] : by_name) differs(fmt::format("{}: only in {}", name, other.folder()));
  result.text += fmt::format("{} tensors compared, {} with different values\n", compared, different);
}

}  // namespace

Difference diff_models(const std::string& one, const std::string& other, bool weights_only) {
  const ModelSource left(one), right(other);
  Difference result;
  if (!weights_only) compare_keys(left, right, result);
  compare_tensors(left, right, weights_only, result);
  result.text += result.equal ? "equal\n" : "different\n";
  return result;
}

}  // namespace depthroute
