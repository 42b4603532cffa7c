// A checkpoint's tensors as files. Every rank writes files of its own, because several machines that write
// one file spoil it on network file systems:
//   parameters   the list of parameters is cut into runs of about equal size; rank r writes the r-th
//   moments      of the ranges of the block that the rank owns, cut at parameter borders: a whole parameter
//                is `m.<name>` in its shape, some of its elements `m.<name>[begin:end]`, counted within the
//                parameter; v likewise. Padding is not stored.
// So a file says by itself what it holds, and a reader needs no partition but its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "configs/model_config.h"
#include "data/manifest.h"
#include "data/model/companions.h"
#include "kernels/device.h"
#include "train/model/parameters.h"
#include "train/sharding/partition.h"

namespace depthroute {

/// What is saved and loaded, on whatever device it is.
struct CheckpointTensors {
  const ModelConfig& config;
  const ParameterLayout& layout;
  const Partition& partition;
  Stream stream;
  Tensor parameters;  // [partition.padded_size()] f32, all of them on every rank
  Tensor m, v;        // [partition.shard_size()] f32, of this rank's ranges (OwnedRange::at)
};

/// Neighbours in the layout's list, all(): [first, last).
struct ParameterRun {
  size_t first = 0, last = 0;
  Range elements;  // of the block, from the first one's beginning to the last one's end
};
/// Which rank writes which parameters: one run per rank, fewer if there are fewer parameters.
std::vector<ParameterRun> parameter_runs(const ParameterLayout& layout, int processes);

/// A rank's moments of one parameter, or of some of its elements.
struct OwnedPart {
  const Parameter* parameter = nullptr;
  Range elements;  // of the parameter
  int64_t at = 0;  // in m and v
};
/// In the order of the block, without padding.
std::vector<OwnedPart> owned_parts(const ParameterLayout& layout, const Partition& partition);

/// Host copies of what one rank writes.
struct CheckpointSnapshot {
  Tensor parameters;  // its run's elements of the block; undefined if it has none
  Tensor m, v;        // [partition.shard_size()]
};
/// Writes a rank's files of parameters and moments below `folder` (where model/ exists) and describes them.
/// `between_chunks` as in write_safetensors. Throws SystemError.
std::vector<ManifestFile> write_checkpoint_tensors(const std::string& folder, const CheckpointTensors& from,
                                                   const CheckpointSnapshot& snapshot,
                                                   const std::function<void()>& between_chunks = {});
/// What rank 0 writes beside them: config.json, the model's companions and, for several ranks, the index.
std::vector<ManifestFile> write_model_description(const std::string& folder, const CheckpointTensors& from,
                                                  const Companions& companions);

/// Fills m and v (padding with zeros) from whatever files of moments are in `folder`. Between them they must
/// hold every element of every parameter exactly once; otherwise DataError naming file and tensor.
void load_moments(const std::string& folder, const CheckpointTensors& to);

}  // namespace depthroute
