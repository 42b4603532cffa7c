// What is measured on one batch, as plain values: they travel between processes and into part files, and the
// evaluation is made of them in the order of batches, so that it does not matter who measured what.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/measure/evaluate.h"
#include "eval/measure/routing_trace.h"

namespace depthroute {

/// Where several processes share a batch, each has a record of it with a part of the outcomes.
struct BatchRecord {
  SequenceRange batch;
  std::vector<float> clean_nll;   // [sequence, token] nats
  std::vector<Outcome> outcomes;  // one per comparison; empty where it was not run
  RoutingRecord routing;          // of the one record that has it

  /// Takes what `other`, of the same batch, has and this one has not.
  void fill_from(BatchRecord&& other);
};

/// For a program of the same build on the same kind of processor.
std::string to_bytes(const BatchRecord& record);
/// DataError if the bytes are not such a record.
BatchRecord record_from_bytes(const std::string& bytes);

/// All batches, in order.
struct Evaluation {
  int64_t sequences = 0, seq_len = 0;  // sequences: so far
  std::vector<float> clean_nll;        // [sequence, token] nats
  std::vector<int64_t> tokens;         // [sequence] targets that count
  std::vector<Outcome> outcomes;       // one per comparison, in its order

  /// For so many sequences. SystemError naming data.sequences where the memory for them is not to be had.
  void reserve(int64_t sequences);
  /// What reserve() takes.
  static int64_t bytes(int64_t sequences, int64_t seq_len, int64_t comparisons);
  /// The next batch, complete. Programmer error if it is not the next one.
  void append(const BatchRecord& record);
};

}  // namespace depthroute
