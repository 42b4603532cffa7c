// What is measured on one batch, as plain values. Records travel between ranks and into part files; the
// evaluation adds them up in the order of batches, so that it does not matter which rank measured what.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/measure/evaluate.h"
#include "eval/measure/routing_trace.h"

namespace depthroute {

/// Where several ranks share a batch, each has a record of it with some of the outcomes.
struct BatchRecord {
  SequenceRange batch;
  std::vector<float> clean_nll;   // [sequence, token] nats
  std::vector<Outcome> outcomes;  // one per comparison; empty where it was not run
  RoutingRecord routing;          // in one of the batch's records; empty in the others

  /// Takes what `other`, of the same batch, has and this one lacks.
  void fill_from(BatchRecord&& other);
};

/// Serialises a record for a rank that runs the same build on the same kind of processor.
std::string to_bytes(const BatchRecord& record);
/// Reads to_bytes() back. DataError if the bytes are no record.
BatchRecord record_from_bytes(const std::string& bytes);

/// The records of all batches, added up in their order.
struct Evaluation {
  int64_t sequences = 0, seq_len = 0;  // sequences: so far
  std::vector<float> clean_nll;        // [sequence, token] nats
  std::vector<int64_t> tokens;         // [sequence] targets that count
  std::vector<Outcome> outcomes;       // one per comparison, in its order

  /// Takes the memory for so many sequences. SystemError naming data.sequences if there is too little.
  void reserve(int64_t sequences);
  /// Returns what reserve() takes.
  static int64_t bytes(int64_t sequences, int64_t seq_len, int64_t comparisons);
  /// Adds the next batch, complete. Programmer error if it is another one.
  void append(const BatchRecord& record);
};

}  // namespace depthroute
