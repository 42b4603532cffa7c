// import, export and wrap: from one folder to another.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/convert/model_output.h"

namespace depthroute {

enum class Dtype : uint8_t { stored, f32, bf16 };

struct ConvertOptions {
  std::string source;
  OutputOptions output;
  Dtype dtype = Dtype::stored;
  std::string format;                    // export: a name of Form; "": by the model
  std::optional<int64_t> max_positions;  // max_position_embeddings, if told
};

struct WrapOptions {
  std::vector<double> recency_bias = {30.0};  // one value, or one per site
  int64_t num_blocks = 8;                     // used if sublayers_per_block is 0
  int64_t sublayers_per_block = 0;
};

/// Each writes a folder and returns what to print. InputError for what cannot be converted, with the reason.
std::string import_model(const ConvertOptions& options);
std::string export_model(const ConvertOptions& options);
std::string wrap_model(const ConvertOptions& options, const WrapOptions& wrap);

}  // namespace depthroute
