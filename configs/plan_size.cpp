#include "configs/plan_size.h"

#include <fmt/format.h>

#include <cmath>

#include "configs/base/sizes.h"

namespace depthroute {
namespace {

/// Floats of the parameter block: matrices, then norms, pseudo-queries and biases. Every group begins at a
/// multiple of 64; the whole is rounded up to 64 times at most 2^20 pieces.
double parameter_bound(const ModelConfig& m) {
  const double d = static_cast<double>(m.hidden_size), f = static_cast<double>(m.intermediate_size);
  const double q = static_cast<double>(m.num_heads * m.head_dim);
  const double kv = static_cast<double>(m.num_kv_heads * m.head_dim);
  const double layer = d * (2 * q + 2 * kv + 3 * f) + 8 * d + 2 * static_cast<double>(m.head_dim) + 16 * 64;
  return 2 * static_cast<double>(m.vocab_size) * d + static_cast<double>(m.num_layers) * layer + 4 * d +
         0x1p26;
}

/// Floats per token of a micro-batch if every intermediate value were kept and none shared.
double floats_per_token(const ModelConfig& m) {
  const double d = static_cast<double>(m.hidden_size), f = static_cast<double>(m.intermediate_size);
  const double q = static_cast<double>(m.num_heads * m.head_dim);
  const double kv = static_cast<double>(m.num_kv_heads * m.head_dim), h = static_cast<double>(m.num_heads);
  const double layers = static_cast<double>(m.num_layers), sites = 2 * layers + 1;
  // State, mix and their gradients; routing.
  const double per_site = 4 * d + 3 * kMaxSources + 2;
  const double per_layer = 2 * d + 3 * q + 3 * kv + 3 * f + h;
  const double backward = 3 * q + 3 * kv + 2 * f;
  // A library's attention: query gradients twice, each padded from one token to eight; keys and values once
  // per query head; row sums.
  const double attention = 16 * q + 2 * q + 2 * h;
  return sites * per_site + layers * per_layer + backward + attention + 2 * d + 8;
}

/// Bytes of the gradients of all attention scores in bf16, padded to tiles of 128.
double score_bytes(const TrainConfig& c) {
  if (c.device == DeviceChoice::cpu || !c.deterministic) return 0;
  const double tokens = static_cast<double>(c.data.seq_len) + 127;
  return 2 * static_cast<double>(c.train.micro_batch) * static_cast<double>(c.model.num_heads) * tokens *
         tokens;
}

}  // namespace

double plan_bytes_bound(const TrainConfig& c) {
  // Parameters and a copy, gradients and up to ten partial sums, two moments, the exchange buffer; a snapshot
  // of three blocks.
  constexpr double kBlocks = 18;
  const double tokens = static_cast<double>(c.train.micro_batch) * static_cast<double>(c.data.seq_len);
  const double table = static_cast<double>(c.data.seq_len) * static_cast<double>(c.model.head_dim);
  // Rounding every tensor up to 256 bytes; logits of at most 4096 rows; scratch that depends on widths only.
  const double rest = 0x1p16 * static_cast<double>(c.model.num_layers) +
                      0x1p16 * static_cast<double>(c.model.vocab_size) + 0x1p44;
  return 4 * (kBlocks * parameter_bound(c.model) + tokens * floats_per_token(c.model) + table) +
         score_bytes(c) + rest;
}

std::string size_problem(const TrainConfig& c) {
  // The bound has room to spare: no machine could hold a plan that this refuses.
  if (plan_bytes_bound(c) >= 0x1p63)
    return "the model and batch of this configuration need more than 2^63 bytes of memory: use a smaller "
           "model, train.micro_batch or data.seq_len";
  constexpr double kMostBuckets = 65536;
  const double bucket = static_cast<double>(c.distributed.bucket_mib) * 0x1p20;
  if (4 * parameter_bound(c.model) > kMostBuckets * bucket)
    return fmt::format(
        "distributed.bucket_mib = {} cuts the gradients of this model into more than {} buckets: raise it, or "
        "use a smaller model",
        c.distributed.bucket_mib, static_cast<int64_t>(kMostBuckets));
  return "";
}

}  // namespace depthroute
