// gemm_choices.json in a run's folder: which of its library's algorithms computes each matrix product, for every
// kind of device and version of the library the run has been on. A run that goes on there repeats its bits.
//
//   {"version": 1, "checksum": "<XXH3-128 of contexts, as nlohmann dumps it without indentation>",
//    "contexts": [{"device": "NVIDIA H100 80GB HBM3, sm_90, 132 SMs", "library": "cuBLASLt 13.1.0",
//      "workspace_bytes": 67108864, "products": [{"m": .., "n": .., "k": .., "transpose_a": false,
//      "transpose_b": true, "accumulate": false, "operands": "bf16", "result": "bf16", "strides": [a, b, c],
//      "alignments": [a, b, c], "algorithm": "<hexadecimal>", "rank": 2, "candidates": 8, "microseconds": ..,
//      "first_microseconds": ..}]}]}
//
// A context without products: the library's first candidates.
#pragma once

#include <string>
#include <vector>

#include "kernels/gemm_choices.h"

namespace depthroute {

struct StoredGemmChoices {
  GemmContext context;
  GemmChoices choices;

  bool operator==(const StoredGemmChoices&) const = default;
};

std::string gemm_choices_to_json(const std::vector<StoredGemmChoices>& stored);
/// DataError naming `where` and the problem unless the text is whole: every size, name and number is checked, and
/// the checksum. Whether the library knows an algorithm is for use_gemm_choices() to say.
std::vector<StoredGemmChoices> gemm_choices_from_json(const std::string& text, const std::string& where);

/// Empty if there is no such file. DataError likewise, AccessError if it cannot be read.
std::vector<StoredGemmChoices> read_gemm_choices(const std::string& path);

}  // namespace depthroute
