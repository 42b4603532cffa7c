// Training steps of several variants of a model, timed in turn.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "configs/train_config.h"
#include "kernels/profile.h"
#include "tests/bench/bench_machine.h"

namespace depthroute::bench {

/// What was measured of one variant at one micro-batch.
struct StepRuns {
  std::string variant;
  int64_t micro_batch = 0, seq_len = 0;
  double flops_per_token = 0;                // of the model, recomputation not counted
  std::vector<std::vector<double>> seconds;  // [round][step]
  int64_t planned_bytes = 0;                 // the arena
  int64_t device_bytes = 0;                  // in use on the GPU while the steps ran; 0 on the CPU
  double peak_resident_mib = 0;              // of this process so far, when the last step had run
  std::string memory;                        // the arena by purpose
  std::vector<ProfileEntry> profile;         // of one step; empty: not asked for
  double profile_seconds = 0;                // that step's own time: waits after every op slow it down
  double loss = 0;                           // of the last step

  double tokens() const { return static_cast<double>(micro_batch * seq_len); }
  double best() const;    // seconds
  double median() const;  // seconds, over all rounds
  double round_median(size_t round) const;
};

class StepBench {
 public:
  explicit StepBench(const Target& target) : target_(target) {}

  /// Times `steps` steps of one round after two to warm up, with memory of its own that is given back.
  /// Adds to `runs`. On the CPU, where every step is profiled at no cost, also the best step's profile.
  void run_round(const TrainConfig& config, int64_t steps, StepRuns& runs);
  /// One step with a wait after every op, without a recorded graph.
  void run_profile(TrainConfig config, StepRuns& runs);

 private:
  Target target_;
  std::map<std::string, std::vector<float>> weights_;  // fresh ones by variant: making them takes seconds
};

}  // namespace depthroute::bench
