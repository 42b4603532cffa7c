// --dry-run --processes N: what N ranks need and what they exchange, calculated without starting them.
//
// Per step and rank, with n ranks, P elements of the (padded) block, of which M are matrices, and w bytes per
// element of the matrices that products read (bf16: 2, f32: 4):
//   reduce-scatter of gradients    4 P (n - 1) / n bytes sent, and as many received
//   all-gather of parameters      (w M + 4 (P - M)) (n - 1) / n bytes (buckets on a border count twice)
//   t_compute = matrix-product FLOPs of the step / (n * rate)
//   t_comm    = bytes / bandwidth + calls * latency
// Communication is hidden behind a micro-batch's time t: the reduce-scatter of the layers' gradients while the
// backward pass of a rank's last one runs, 2/3 t; the all-gather of what the next forward pass does not read at
// its beginning (layers, an untied head) while that of the first one runs, 1/3 t. The rest of both, and
// embedding and norms, are exposed:
//   exposed = max(0, t_layers_scatter - 2/3 t) + t_rest + max(0, t_late_gather - 1/3 t)
//   share   = exposed / (t_compute + exposed)
// Bandwidth and rate are the user's: this prints arithmetic, not a measurement.
#pragma once

#include <string>

#include "configs/train_config.h"
#include "train/sharding/partition.h"

namespace depthroute {

struct CommunicationAssumptions {
  int ranks = 1;
  double bandwidth = 0;  // bytes/s a rank can send while it receives as many; 0: a range of usual ones
  double rate = 0;       // FLOP/s of matrix products per rank; 0: 40 % of an H100's dense bf16 peak
};

struct CommunicationEstimate {
  double scatter_bytes = 0;        // of all reduce-scatters
  double layer_scatter_bytes = 0;  // of those that the backward pass can hide
  double gather_bytes = 0;
  double late_gather_bytes = 0;  // of those that the next forward pass can hide
  int64_t calls = 0;
  double seconds = 0, exposed_seconds = 0, compute_seconds = 0;
  double exposed_share() const { return exposed_seconds / (compute_seconds + exposed_seconds); }
};
/// `latency`: seconds per call.
CommunicationEstimate estimate_communication(const TrainConfig& config, const ParameterLayout& layout,
                                             const Partition& partition, double bytes_per_matrix_element,
                                             double bandwidth, double rate, double latency);

/// The section of the dry run's report. ConfigError if the batch cannot be divided among so many ranks.
std::string describe_communication(const TrainConfig& config, const CommunicationAssumptions& assumptions);

}  // namespace depthroute
