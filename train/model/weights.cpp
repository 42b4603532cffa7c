#include "train/model/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "configs/base/error.h"
#include "data/files.h"
#include "kernels/host_view.h"
#include "kernels/ops/ops.h"

namespace depthroute {

namespace {

/// "[3, 17]": the place of element `index` of a tensor.
std::string position_text(const Shape& shape, int64_t index) {
  std::vector<int64_t> extents = shape.extents(), indices(extents.size());
  for (size_t axis = extents.size(); axis-- > 0; index /= extents[axis])
    indices[axis] = index % extents[axis];
  return fmt::format("[{}]", fmt::join(indices, ", "));
}

constexpr uint32_t kInfinite = 0x7f800000;

/// The bits without the sign: infinities and NaNs compare larger than every finite value.
uint32_t magnitude(float value) { return std::bit_cast<uint32_t>(value) & 0x7fffffffu; }
bool is_finite(float value) { return magnitude(value) < kInfinite; }

void require_finite(const ModelFolder& folder, const Parameter& parameter, std::span<const float> values) {
  // Looks for the largest value, not for the first bad one: without an early exit the loop is vectorized.
  uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, magnitude(value));
  if (largest < kInfinite) return;
  const auto bad = std::find_if_not(values.begin(), values.end(), is_finite);
  throw DataError(
      "{}: tensor \"{}\" holds {} at {}; the model is damaged or its training failed: take another",
      folder.path(), parameter.name, *bad, position_text(parameter.shape, bad - values.begin()));
}

/// Copies one parameter from the folder to the device, through host memory.
void load_one(Stream stream, const ModelFolder& folder, const ParameterLayout& layout,
              const Parameter& parameter, const Tensor& block, std::vector<float>& staging) {
  staging.resize(parameter.numel());
  folder.read(parameter.name, parameter.shape.extents(), staging);
  require_finite(folder, parameter, staging);
  ops::copy(stream, host_tensor(staging.data(), parameter.shape), layout.view(block, parameter));
  synchronize(stream);  // staging is reused
}

/// Whether only routing has this parameter: a plain model's folder does not.
bool is_routing(const Parameter& parameter) { return parameter.name.find("_res_") != std::string::npos; }

/// What a folder has to hold, and nothing else.
void check(const ModelFolder& folder, const std::vector<const Parameter*>& parameters) {
  std::vector<std::string> names;
  for (const Parameter* parameter : parameters) names.push_back(parameter->name);
  folder.check_names(names);
  for (const Parameter* parameter : parameters) folder.check(parameter->name, parameter->shape.extents());
}

}  // namespace

void check_parameters(const ModelFolder& folder, const ParameterLayout& layout) {
  std::vector<const Parameter*> parameters;
  for (const Parameter& parameter : layout.all()) parameters.push_back(&parameter);
  check(folder, parameters);
}

void check_wrapped_parameters(const ModelFolder& plain, const ParameterLayout& layout) {
  std::vector<const Parameter*> parameters;
  for (const Parameter& parameter : layout.all())
    if (!is_routing(parameter)) parameters.push_back(&parameter);
  check(plain, parameters);
}

void load_parameters(Stream stream, const ModelFolder& folder, const ParameterLayout& layout,
                     const Tensor& block) {
  check_parameters(folder, layout);
  ops::zero(stream, block);
  std::vector<float> staging;
  for (const Parameter& parameter : layout.all()) load_one(stream, folder, layout, parameter, block, staging);
}

void load_wrapped_parameters(Stream stream, const ModelFolder& plain, const ParameterLayout& layout,
                             std::span<const double> recency_bias, const Tensor& block) {
  size_t num_sites = 0;
  for (const Parameter& parameter : layout.all()) num_sites += parameter.init == Init::recency_bias;
  if (recency_bias.size() != 1 && recency_bias.size() != num_sites)
    throw ConfigError(
        "model.wrap.recency_bias has {} values, but the wrapped model has {} sites: give one value or {}",
        recency_bias.size(), num_sites, num_sites);
  check_wrapped_parameters(plain, layout);
  ops::zero(stream, block);
  std::vector<float> staging;
  size_t site = 0;  // the layout has biases in plan order
  for (const Parameter& parameter : layout.all()) {
    if (!is_routing(parameter)) {
      load_one(stream, plain, layout, parameter, block, staging);
    } else if (parameter.init == Init::recency_bias) {
      const double bias = recency_bias.size() == 1 ? recency_bias[0] : recency_bias[site++];
      ops::fill(stream, layout.view(block, parameter), static_cast<float>(bias));
    } else if (parameter.init == Init::ones) {
      ops::fill(stream, layout.view(block, parameter), 1.0f);
    }
  }
  synchronize(stream);
}

std::string parameters_checksum(Stream stream, const ParameterLayout& layout, const Tensor& block) {
  const HostView host(stream, block);
  std::string hashes;  // one per parameter: the padding between them is not part of the model
  for (const Parameter& parameter : layout.all()) {
    const Tensor view = layout.view(host.tensor(), parameter);
    hashes += hash_bytes({static_cast<const std::byte*>(view.pointer), static_cast<size_t>(view.bytes())});
  }
  return hash_bytes(std::as_bytes(std::span<const char>(hashes)));
}

}  // namespace depthroute
