#include "data/tokens/request_file.h"

#include <algorithm>
#include <initializer_list>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/json.h"

namespace depthroute {
namespace {

using nlohmann::json;

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;
constexpr int64_t kMostTokens = int64_t{1} << 40;  // no sum of so many sizes overflows
constexpr int64_t kLargestToken = INT32_MAX;

/// A JSON object of the file, whose every key must be asked for.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) fail("{} stands where an object should", describe(object_));
  }

  void allow(std::initializer_list<const char*> keys) const {
    for (const auto& [key, value] : object_.items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) fail("the key {} is unknown", quote(key));
  }
  const json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail("the key \"{}\" is missing", key);
    return *found;
  }
  int64_t count(const char* key, int64_t least, int64_t most) const {
    const json& value = at(key);
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(most) ||
        value.get<int64_t>() < least)
      fail("\"{}\" is {}, not a number from {} to {}", key, describe(value), least, most);
    return value.get<int64_t>();
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    if (!value.is_string()) fail("\"{}\" is {}, not text", key, describe(value));
    const std::string content = value.get<std::string>();
    if (std::any_of(content.begin(), content.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20; }))
      fail("\"{}\" holds control characters", key);
    return content;
  }
  const json& list(const char* key) const {
    const json& value = at(key);
    if (!value.is_array()) fail("\"{}\" is {}, not a list", key, describe(value));
    if (value.empty()) fail("\"{}\" is empty", key);
    return value;
  }
  /// Appends the tokens of a list. Returns how many.
  int64_t tokens(const char* key, std::vector<int32_t>& all) const {
    const json& values = list(key);
    for (const json& value : values) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{kLargestToken})
        fail("\"{}\" holds {}, not a token", key, describe(value));
      all.push_back(value.get<int32_t>());
    }
    return static_cast<int64_t>(values.size());
  }
  const std::string& where() const { return where_; }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw DataError("{}: {}", where_, fmt::format(format, std::forward<Args>(args)...));
  }

  const json& object_;
  std::string where_;
};

/// The lines of a text, each ended by a line feed.
class Lines {
 public:
  Lines(const std::string& text, const std::string& path) : text_(text), path_(path) {}
  bool next(std::string& line) {
    if (at_ == text_.size()) return false;
    const size_t end = text_.find('\n', at_);
    ++number_;
    if (end == std::string::npos)
      throw DataError("{}: ends within line {}: the file is truncated; write it again", path_, number_);
    line = text_.substr(at_, end - at_);
    at_ = end + 1;
    return true;
  }
  std::string where() const { return fmt::format("{}:{}", path_, number_); }

 private:
  const std::string& text_;
  const std::string& path_;
  size_t at_ = 0;
  int64_t number_ = 0;
};

Request read_request(const Fields& fields, TaskType type, std::vector<int32_t>& tokens) {
  const bool choice = type == TaskType::multiple_choice;
  if (choice)
    fields.allow({"context", "continuation", "cut", "characters", "bytes"});
  else
    fields.allow({"context", "continuation", "cut"});
  Request request;
  request.first_token = static_cast<int64_t>(tokens.size());
  request.context = fields.tokens("context", tokens);
  request.continuation = fields.tokens("continuation", tokens);
  request.cut = fields.count("cut", 0, kMostTokens);
  if (!choice) return request;
  request.characters = fields.count("characters", 0, kMostTokens);
  request.bytes = fields.count("bytes", 0, kMostTokens);
  return request;
}

RequestDocument read_document(const Fields& fields, TaskType type) {
  RequestDocument document;
  document.number = fields.count("doc", 0, kMostTokens);
  const auto requests = static_cast<int64_t>(fields.list("requests").size());
  document.requests = requests;
  switch (type) {
    case TaskType::loglikelihood:
      fields.allow({"doc", "requests"});
      if (requests != 1)
        throw DataError("{}: {} requests, but {} has one", fields.where(), requests, to_string(type));
      break;
    case TaskType::multiple_choice:
      fields.allow({"doc", "gold", "requests"});
      document.gold = fields.count("gold", 0, kMostTokens);
      if (document.gold >= requests)
        throw DataError("{}: \"gold\" is {}, but there are {} choices, counted from 0", fields.where(),
                        document.gold, requests);
      break;
    case TaskType::loglikelihood_rolling:
      fields.allow({"doc", "words", "bytes", "requests"});
      document.words = fields.count("words", 1, kMostTokens);
      document.bytes = fields.count("bytes", 1, kMostTokens);
      break;
  }
  return document;
}

}  // namespace

RequestFile::RequestFile(const std::string& path) : path_(path) {
  const std::string text = read_file(path, kMaxFileBytes);
  checksum_ = hash_bytes(std::as_bytes(std::span<const char>(text)));
  Lines lines(text, path_);
  std::string line;
  if (!lines.next(line)) throw DataError("{}: is empty; make it with tools/make_requests.py", path);
  const json header = parse_json_object(line, lines.where());
  read_header(header);
  while (lines.next(line)) {
    const json document = parse_json_object(line, lines.where());
    add_document(document, lines.where());
  }
  const Fields counts(header, path + ":1");
  const auto check_total = [&](const char* key, size_t there) {
    if (const int64_t said = counts.count(key, 1, kMostTokens); static_cast<int64_t>(there) != said)
      throw DataError("{}: holds {} {}, but line 1 says {}: the file is damaged; write it again", path_,
                      there, key, said);
  };
  check_total("documents", documents_.size());
  check_total("requests", requests_.size());
  check_total("tokens", tokens_.size());
}

void RequestFile::read_header(const json& header) {
  const Fields fields(header, path_ + ":1");
  if (!header.contains("kind") || header["kind"] != kRequestKind)
    throw DataError("{}: is no file of task requests; make one with tools/make_requests.py", path_);
  if (const int64_t version = fields.count("version", 0, kMostTokens); version != kRequestVersion)
    throw DataError("{}: task requests of version {}, and this program reads {}; make them again", path_,
                    version, kRequestVersion);
  fields.allow({"kind", "version", "task", "output_type", "harness", "tokenizer", "max_length", "documents",
                "requests", "tokens"});
  task_ = fields.text("task");
  const std::string type = fields.text("output_type");
  if (!parse<TaskType>(type))
    throw DataError("{}:1: \"output_type\" is {}, which this program cannot score", path_, quote(type));
  type_ = *parse<TaskType>(type);
  harness_ = fields.text("harness");
  tokenizer_ = fields.text("tokenizer");
  max_length_ = fields.count("max_length", 1, kMostTokens);
}

void RequestFile::add_document(const json& object, const std::string& where) {
  const Fields fields(object, where);
  RequestDocument document = read_document(fields, type_);
  document.first_request = static_cast<int64_t>(requests_.size());
  if (!documents_.empty() && document.number <= documents_.back().number)
    throw DataError("{}: document {} comes after {}; they must rise", where, document.number,
                    documents_.back().number);
  int64_t choice = 0;
  for (const json& entry : object["requests"]) {
    const Fields inner(entry, fmt::format("{}: request {}", where, choice));
    Request request = read_request(inner, type_, tokens_);
    request.document = static_cast<int64_t>(documents_.size());
    request.choice = choice++;
    if (request.inputs() > max_length_)
      throw DataError("{}: {} tokens are read, more than max_length = {} of line 1", inner.where(),
                      request.inputs(), max_length_);
    longest_ = std::max(longest_, request.inputs());
    scored_tokens_ += request.continuation;
    requests_.push_back(request);
  }
  documents_.push_back(document);
}

std::span<const Request> RequestFile::requests_of(const RequestDocument& document) const {
  return std::span(requests_).subspan(static_cast<size_t>(document.first_request),
                                      static_cast<size_t>(document.requests));
}

void RequestFile::read(int64_t begin, std::span<int32_t> out) const {
  DR_CHECK(begin >= 0 && begin + std::ssize(out) <= std::ssize(tokens_));
  std::copy_n(tokens_.begin() + begin, out.size(), out.begin());
}

void RequestFile::check_vocabulary(int64_t vocab_size) const {
  for (const Request& request : requests_)
    for (int64_t i = 0; i < request.context + request.continuation; ++i)
      if (const int32_t token = tokens_[static_cast<size_t>(request.first_token + i)]; token >= vocab_size)
        throw DataError(
            "{}: document {}, request {}: token {} is outside the model's vocabulary of {}; make the requests "
            "with the model's own tokenizer",
            path_, documents_[static_cast<size_t>(request.document)].number, request.choice, token,
            vocab_size);
}

}  // namespace depthroute
