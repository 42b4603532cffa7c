// Training jobs of several processes on the tiny model, and what they leave behind, whoever wrote which part.
#pragma once

#include <string>
#include <vector>

#include "tests/distributed/launch.h"
#include "tests/train/tiny_run.h"

namespace depthroute::testing_support {

/// Parameters and moments of a checkpoint, padding left out.
struct Weights {
  std::vector<float> parameters, m, v;
  bool operator==(const Weights&) const = default;
};

class JobRun : public TinyRun {
 protected:
  /// A deterministic run of 16 sequences a step, one at a time, with several buckets.
  std::vector<std::string> arguments(const std::string& output, int64_t steps,
                                     const std::vector<std::string>& settings = {});
  Result job(int processes, const std::string& output, int64_t steps,
             const std::vector<std::string>& settings = {});
  /// Loaded as one process loads it; fails the test if it does not verify.
  Weights weights(const std::string& output, int64_t step) const;
  void expect_same_result(const std::string& a, const std::string& b, int64_t step) const;
};

}  // namespace depthroute::testing_support
