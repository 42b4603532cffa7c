#include "train/model/weights.h"

#include <vector>

#include "configs/base/error.h"
#include "data/files.h"
#include "kernels/host_view.h"
#include "kernels/ops.h"

namespace depthroute {

namespace {

/// One parameter from the folder, through host memory.
void load_one(Stream stream, const ModelFolder& folder, const ParameterLayout& layout,
              const Parameter& parameter, const Tensor& block, std::vector<float>& staging) {
  staging.resize(parameter.numel());
  folder.read(parameter.name, parameter.shape.extents(), staging);
  ops::copy(stream, host_tensor(staging.data(), parameter.shape), layout.view(block, parameter));
  synchronize(stream);  // staging is reused
}

/// A parameter only routing has: not in a plain model's folder.
bool is_routing(const Parameter& parameter) { return parameter.name.find("_res_") != std::string::npos; }

}  // namespace

void load_parameters(Stream stream, const ModelFolder& folder, const ParameterLayout& layout,
                     const Tensor& block) {
  std::vector<std::string> names;
  for (const Parameter& parameter : layout.all()) names.push_back(parameter.name);
  folder.check_names(names);
  ops::zero(stream, block);
  std::vector<float> staging;
  for (const Parameter& parameter : layout.all()) load_one(stream, folder, layout, parameter, block, staging);
}

void load_wrapped_parameters(Stream stream, const ModelFolder& plain, const ParameterLayout& layout,
                             std::span<const double> recency_bias, const Tensor& block) {
  std::vector<std::string> names;
  size_t num_sites = 0;
  for (const Parameter& parameter : layout.all()) {
    if (!is_routing(parameter)) names.push_back(parameter.name);
    if (parameter.init == Init::recency_bias) ++num_sites;
  }
  if (recency_bias.size() != 1 && recency_bias.size() != num_sites)
    throw ConfigError(
        "model.wrap.recency_bias has {} values, but the wrapped model has {} sites: give one value or {}",
        recency_bias.size(), num_sites, num_sites);
  plain.check_names(names);
  ops::zero(stream, block);
  std::vector<float> staging;
  size_t site = 0;  // biases stand in the layout in plan order
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
  std::string hashes;  // one per parameter: the padding between them is no part of the model
  for (const Parameter& parameter : layout.all()) {
    const Tensor view = layout.view(host.tensor(), parameter);
    hashes += hash_bytes({static_cast<const std::byte*>(view.pointer), static_cast<size_t>(view.bytes())});
  }
  return hash_bytes(std::as_bytes(std::span<const char>(hashes)));
}

}  // namespace depthroute
