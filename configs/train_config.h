// What depthroute-train can be told. Meaning, default, range and help text of every key stand in
// train_schema.cpp, once; the parser, --print-config, --help-config and the README's reference come from
// there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "configs/model_config.h"

namespace depthroute {

struct TrainDataConfig {
  std::vector<std::string> train, val;
  int64_t seq_len = 2048;
  std::string order = "shuffled";  // sequential | shuffled
};
struct LoopConfig {
  int64_t steps = 20000;
  int64_t global_batch = 256;      // sequences per optimiser step
  int64_t micro_batch = 8;         // sequences per forward/backward pass; divides global_batch
  std::string recompute = "none";  // none | norms | layer
  bool cuda_graph = false;
  int64_t max_bad_steps = 5;  // non-finite steps in a row before the run stops
};
struct OptimizerConfig {
  double lr = 3.0e-4, lr_min = 3.0e-5;
  std::string schedule = "cosine";  // cosine | wsd | constant
  int64_t warmup = 1000;
  double decay_fraction = 0.2;  // wsd: the last fraction of the steps decays linearly to lr_min
  double beta1 = 0.9, beta2 = 0.95, eps = 1.0e-8, weight_decay = 0.1, max_norm = 1.0;
};
struct ValidateConfig {
  int64_t every = 500;      // steps; 0: never
  int64_t sequences = 512;  // the first this many of data.val (or all, if fewer)
};
struct CheckpointConfig {
  int64_t every = 1000;         // steps; 0: only the last
  int64_t keep = 3;             // newest this many; 0: all
  std::string resume = "auto";  // auto | never | a checkpoint folder
  bool accept_changes = false;  // resume although keys that decide the result differ from the checkpoint's
};
struct DistributedConfig {
  std::string backend = "auto";  // of GPUs: auto | nccl | mpi
  int64_t bucket_mib = 32;       // of float32 gradients exchanged at a time
  int64_t shards = 8;            // deterministic: a step is always summed as this many parts
  int64_t timeout = 600;         // seconds
};
struct LogConfig {
  int64_t every = 10;
};

struct TrainConfig {
  uint64_t seed = 42;
  std::string output;              // required
  std::string device = "auto";     // auto | cpu | cuda
  std::string precision = "bf16";  // bf16 | fp32; the CPU computes in fp32 whatever is asked
  bool deterministic = false;
  std::optional<std::string> model_from;  // model.from
  ModelConfig model;
  TrainDataConfig data;
  LoopConfig train;
  OptimizerConfig optimizer;
  ValidateConfig validate;
  CheckpointConfig checkpoint;
  DistributedConfig distributed;
  LogConfig log;
};

}  // namespace depthroute
