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

/// The measurements of one variant at one micro-batch.
struct StepRuns {
  std::string variant;
  int64_t micro_batch = 0, seq_len = 0;
  int64_t micro_batches = 1;                 // of a step
  double flops_per_token = 0;                // of the model, without recomputation
  std::vector<std::vector<double>> seconds;  // [round][step]
  int64_t planned_bytes = 0;                 // the arena
  int64_t device_bytes = 0;                  // in use on the GPU while the steps ran; 0 on the CPU
  double peak_resident_mib = 0;              // of this process, after the last step
  std::string memory;                        // the arena by purpose
  std::vector<ProfileEntry> profile;         // of one step; empty if not requested
  double profile_seconds = 0;                // of that step, which waits after every op slow down
  double loss = 0;                           // of the last step

  double tokens() const { return static_cast<double>(micro_batch * micro_batches * seq_len); }  // of a step
  double best() const;                                                                          // seconds
  double median() const;  // seconds, over all rounds
  double round_median(size_t round) const;
};

class StepBench {
 public:
  explicit StepBench(const Target& target) : target_(target) {}

  /// Times `steps` steps of one round, after warm-up steps, with memory of its own that it frees afterwards.
  /// Adds to `runs`. On the CPU, where profiling costs nothing, also keeps the best step's profile.
  void run_round(const TrainConfig& config, int64_t steps, StepRuns& runs);
  /// Profiles one step, with a wait after every op and without a recorded graph.
  void run_profile(TrainConfig config, StepRuns& runs);

 private:
  Target target_;
  std::map<std::string, std::vector<float>> weights_;  // initial ones by variant: drawing them takes seconds
};

}  // namespace depthroute::bench
