// The sequences that an evaluation measures on (eval/SPEC.md §3): which tokens each holds, and which
// document each of its targets belongs to.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/eval_config.h"
#include "data/tokens/request_file.h"
#include "data/tokens/token_stream.h"
#include "eval/sequences/splits.h"

namespace depthroute {

/// The targets of one sequence that belong to one document.
struct Segment {
  /// Stream position of the document's first token; of a task, the document's number in the harness's data set.
  int64_t document = 0;
  int64_t sequence = 0;     // counted from 0
  int64_t first_token = 0;  // position in the sequence of the first of its targets
  int64_t tokens = 0;       // targets, >= 1; they follow each other
  bool operator==(const Segment&) const = default;
};

class Sequences {
 public:
  /// Chooses `count` sequences of `split`, as data.choose says, in stream order. data.split and
  /// data.sequences are not read but for messages. Reads the stream around the chosen windows, and for
  /// `documents` all of the split. The stream must outlive this object and stay where it is. ConfigError if
  /// the split holds fewer, or if `documents` are asked for and nothing says where they begin.
  Sequences(const TokenStream& stream, const EvalDataConfig& data, const SplitsConfig& splits, Split split,
            int64_t count);
  /// The requests of the documents of `split`, one sequence each, in the order of the file; the first `limit` of a
  /// random order of documents if it is given. seq_len is the longest request of the file. `requests` must outlive
  /// this object and stay where it is. ConfigError if the split holds fewer sequences than the limit.
  Sequences(const RequestFile& requests, const EvalDataConfig& data, const SplitsConfig& splits, Split split,
            std::optional<int64_t> limit = {});

  int64_t size() const { return static_cast<int64_t>(first_tokens_.size()); }
  int64_t seq_len() const { return seq_len_; }
  /// By sequence, then position.
  const std::vector<Segment>& segments() const { return segments_; }
  /// Those of the sequences [first_sequence, first_sequence + count).
  std::span<const Segment> segments_of(int64_t first_sequence, int64_t count) const;
  /// Place of its first input in the stream, or among the tokens of the requests.
  int64_t first_token(int64_t sequence) const { return first_tokens_[static_cast<size_t>(sequence)]; }
  /// Targets that count.
  int64_t tokens(int64_t sequence) const;
  /// Inputs that are real; the rest is padding.
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  /// Fills `tokens` and `targets`, of seq_len each; padding is token 0, target -1. DataError for tokens
  /// outside the vocabulary.
  void read(int64_t sequence, std::span<int32_t> tokens, std::span<int32_t> targets) const;
  /// Positions of inputs that are the first token of a document, ascending.
  std::vector<int64_t> document_starts(int64_t sequence) const;
  /// What the sequences are requests of; null for windows and documents of a stream.
  const RequestFile* requests() const { return requests_; }
  /// The request that a sequence is. Only if there are requests().
  const Request& request(int64_t sequence) const;
  /// What says where documents begin. If nothing does, each sequence is taken as a document.
  DocumentsFrom documents_from() const { return documents_from_; }
  /// Different documents among the segments.
  int64_t documents() const { return documents_; }
  /// With data.choose: documents, those longer than seq_len + 1 tokens, of which the rest is not measured.
  int64_t documents_cut() const { return documents_cut_; }
  /// Hash of all of the above: the same for the same choice from the same stream. Says nothing about the
  /// tokens.
  std::string fingerprint() const;

 private:
  void choose_windows(const std::vector<Block>& blocks, const EvalDataConfig& data, Split split,
                      int64_t count);
  void choose_documents(const std::vector<Block>& blocks, const EvalDataConfig& data, Split split,
                        int64_t count);
  /// Appends the segments of the windows of all blocks.
  void find_segments(const std::vector<Block>& blocks, const EvalDataConfig& data);
  void append(int64_t first_token, int64_t length);
  /// Once all segments are there.
  void count_documents();

  const TokenStream* stream_ = nullptr;  // for choosing
  const RequestFile* requests_ = nullptr;
  std::function<void(int64_t, std::span<int32_t>)> read_;  // tokens from a place on
  int64_t seq_len_;
  DocumentsFrom documents_from_ = DocumentsFrom::none;
  std::vector<int64_t> first_tokens_, lengths_;  // of each sequence
  std::vector<int64_t> request_indices_;         // of each sequence, if there are requests
  std::vector<bool> begins_document_;            // with its first input
  std::vector<Segment> segments_;
  std::vector<int64_t> first_segments_;  // of each sequence, and the end
  int64_t documents_ = 0, documents_cut_ = 0;
};

}  // namespace depthroute
