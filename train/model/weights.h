// Loads parameters from model folders, onto whatever device the block is on.
#pragma once

#include <span>
#include <string>

#include "data/model/model_folder.h"
#include "kernels/device.h"
#include "train/model/parameters.h"

namespace depthroute {

/// Compares names, shapes and dtypes of a folder's tensors with the layout; reads no values. DataError if
/// they differ.
void check_parameters(const ModelFolder& folder, const ParameterLayout& layout);
/// The same for a plain model that is to be wrapped: `layout` is that of the cumulative configuration.
void check_wrapped_parameters(const ModelFolder& plain, const ParameterLayout& layout);

/// Reads every parameter of the layout from the folder. DataError as check_parameters(), and for values that
/// are not finite.
void load_parameters(Stream stream, const ModelFolder& folder, const ParameterLayout& layout,
                     const Tensor& block);

/// Reads a plain model as `cumulative` under a recency schedule (train/model/SPEC.md §1): pseudo-queries 0,
/// key norms 1, biases `recency_bias` (one value, or one per site in plan order). `layout` is that of the
/// cumulative configuration.
void load_wrapped_parameters(Stream stream, const ModelFolder& plain, const ParameterLayout& layout,
                             std::span<const double> recency_bias, const Tensor& block);

/// XXH3-128 over the checksums of all parameters in layout order: equal before and after an evaluation.
std::string parameters_checksum(Stream stream, const ParameterLayout& layout, const Tensor& block);

}  // namespace depthroute
