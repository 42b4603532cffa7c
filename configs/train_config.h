// What depthroute-train can be told. train_schema.cpp states the key, range and meaning of every field once;
// the reader, --print-config, --help-config and REFERENCE.md follow from it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "configs/model_config.h"
#include "configs/terms.h"

namespace depthroute {

struct MixSource {
  std::vector<std::string> shards;
  double weight = 1;  // relative to the other sources'
};
struct TrainDataConfig {
  std::vector<std::string> train, val;
  std::vector<MixSource> mix;  // instead of train
  int64_t seq_len = 2048;
  DataOrder order = DataOrder::shuffled;
};
struct LoopConfig {
  int64_t steps = 20000;
  int64_t global_batch = 256;  // sequences per optimizer step
  int64_t micro_batch = 8;     // sequences per forward/backward pass; divides global_batch
  Recompute recompute = Recompute::act;
  bool cuda_graph = false;
  bool overlap = false;
  bool tune_products = true;
  int64_t max_bad_steps = 5;  // non-finite steps in a row before the run stops
};
struct OptimizerConfig {
  double lr = 3.0e-4, lr_min = 3.0e-5;
  LearningRateDecay lr_decay = LearningRateDecay::cosine;  // optimizer.schedule
  int64_t warmup = 1000;
  double decay_fraction = 0.2;  // wsd: the last fraction of the steps decays linearly to lr_min
  double beta1 = 0.9, beta2 = 0.95, eps = 1.0e-8, weight_decay = 0.1, max_norm = 1.0;
};
struct ValidateConfig {
  int64_t every = 500;      // steps; 0: never
  int64_t sequences = 512;  // the first this many of data.val, or all if there are fewer
};
struct CheckpointConfig {
  int64_t every = 1000;         // steps; 0: only the last
  int64_t keep = 3;             // newest this many; 0: all
  bool initial = false;         // also before the first step, and kept
  std::string resume = "auto";  // auto | never | a checkpoint folder
  bool accept_changes = false;  // resume even if keys that decide the result differ from the checkpoint's
};
struct DistributedConfig {
  CollectiveBackend backend = CollectiveBackend::automatic;
  int64_t bucket_mib = 32;  // of float32 gradients exchanged at a time
  int64_t shards = 8;       // deterministic: how many partial sums make up a step's gradient
  int64_t timeout = 600;    // seconds
};
struct LogConfig {
  int64_t every = 10;
  bool tensorboard = false;
};

struct TrainConfig {
  uint64_t seed = 42;
  std::string output;  // required
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::bf16;
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

  /// Keys that the file or --set gave, even with their default values: "model.residual.variant". Not part of
  /// the configuration: to_yaml() and flatten() ignore it.
  std::set<std::string> given;
};

}  // namespace depthroute
