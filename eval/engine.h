// The model and the evaluator on one device: what an evaluation computes with.
#pragma once

#include <string>

#include "eval/input.h"
#include "eval/measure/evaluate.h"
#include "kernels/arena.h"
#include "train/model/qwen3.h"

namespace depthroute {

struct Engine {
  Arena arena;
  Qwen3 model;
  Evaluator evaluator;
  Stream stream;

  /// Plans all memory and takes none.
  Engine(const EvalInput& input, Device device);
  /// Checks the model folder's tensors as load() does, but reads no values. DataError.
  void check(const EvalInput& input) const;
  /// Takes the memory and reads the parameters. SystemError without enough memory, DataError for damaged
  /// tensors.
  void load(const EvalInput& input);
  /// Takes the means over the calibration split, if anything needs them.
  void calibrate(const EvalInput& input);
  std::string parameters() const;  // parameters_checksum()
};

}  // namespace depthroute
