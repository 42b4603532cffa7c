// Makes the results file of an evaluation whose units are all there.
#pragma once

#include "eval/input.h"

namespace depthroute {

/// What the statistics and the file need, taken before anything is measured, so that too little memory or disk
/// is noticed at the start.
class ResultsBuilder {
 public:
  explicit ResultsBuilder(const EvalInput& input);
  ~ResultsBuilder();
  ResultsBuilder(const ResultsBuilder&) = delete;
  ResultsBuilder& operator=(const ResultsBuilder&) = delete;

  /// Reads all units, computes statistics, puts the file in its place and prints the table. `from` lacks what
  /// units know. Returns the exit status: a known answer that came out wrong is a failure.
  int finish(const CommandLine& command, const UnitStore& store, Provenance from);

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
  const EvalInput& input_;
};

/// Bytes for everything measured, and for the bootstrap, as --dry-run reports them.
struct ResultsMemory {
  int64_t measured = 0, bootstrap = 0;
};
ResultsMemory results_memory(const EvalInput& input);

/// Prints that a known answer is wrong, "<where>" saying what cannot be trusted; returns the exit status.
int report_wrong_answer(const CommandLine& command, const std::string& where);

}  // namespace depthroute
