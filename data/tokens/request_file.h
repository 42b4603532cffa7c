// Requests of a benchmark task, as tools/make_requests.py writes them: what the EleutherAI harness would feed to a
// model, already tokenised and cut to the model's length. JSON lines: a header, then a line per document. The
// format is in data/README.md, how outcomes are made of it in eval/SPEC.md §3.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "configs/terms.h"

namespace depthroute {

inline constexpr const char* kRequestKind = "depthroute task requests";
inline constexpr int64_t kRequestVersion = 1;

/// One call of the model: a context, and the continuation whose log-likelihood is asked for. The model reads
/// context + continuation without its last token; the last `continuation` of its predictions are scored. For
/// loglikelihood_rolling, one window of a document.
struct Request {
  int64_t document = 0;      // index into RequestFile::documents()
  int64_t choice = 0;        // number within its document
  int64_t first_token = 0;   // place of its context among the tokens of the file
  int64_t context = 0;       // tokens, >= 1
  int64_t continuation = 0;  // tokens, >= 1
  int64_t cut = 0;           // tokens that the harness dropped on the left
  int64_t characters = 0;    // of a choice's text, as acc_norm counts them; multiple_choice only
  int64_t bytes = 0;         // the same in bytes of UTF-8
  /// Tokens that the model reads.
  int64_t inputs() const { return context + continuation - 1; }
};

/// A document of the task: the unit of its metrics.
struct RequestDocument {
  int64_t number = 0;            // in the harness's data set
  int64_t first_request = 0;     // index
  int64_t requests = 0;          // >= 1; they follow each other
  int64_t gold = -1;             // the right choice; multiple_choice only
  int64_t words = 0, bytes = 0;  // of the text; loglikelihood_rolling only
};

class RequestFile {
 public:
  /// Reads all of it. DataError naming file, line and what is wrong: unknown or missing keys, another version,
  /// counts other than the header's, requests without context or continuation or longer than the header's
  /// max_length, tokens outside [0, 2^31).
  explicit RequestFile(const std::string& path);

  const std::string& path() const { return path_; }
  const std::string& task() const { return task_; }
  TaskType type() const { return type_; }
  /// "lm_eval 0.4.9": what made the requests.
  const std::string& harness() const { return harness_; }
  /// hash_file() of the tokenizer.json that made the tokens.
  const std::string& tokenizer() const { return tokenizer_; }
  int64_t max_length() const { return max_length_; }
  const std::vector<RequestDocument>& documents() const { return documents_; }
  const std::vector<Request>& requests() const { return requests_; }
  std::span<const Request> requests_of(const RequestDocument& document) const;
  /// The most tokens that a request gives the model.
  int64_t longest() const { return longest_; }
  /// Of all requests.
  int64_t scored_tokens() const { return scored_tokens_; }
  /// hash_file() of this file.
  const std::string& checksum() const { return checksum_; }

  /// Tokens [begin, begin + out.size()) of all requests, one after another: context, then continuation.
  void read(int64_t begin, std::span<int32_t> out) const;
  /// DataError naming the first token that the vocabulary lacks, if there is one.
  void check_vocabulary(int64_t vocab_size) const;

 private:
  void read_header(const nlohmann::json& header);
  void add_document(const nlohmann::json& object, const std::string& where);

  std::string path_, task_, harness_, tokenizer_, checksum_;
  TaskType type_ = TaskType::loglikelihood;
  int64_t max_length_ = 0, longest_ = 0, scored_tokens_ = 0;
  std::vector<RequestDocument> documents_;
  std::vector<Request> requests_;
  std::vector<int32_t> tokens_;
};

}  // namespace depthroute
