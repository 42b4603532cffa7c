// Any bytes as a file of task requests, and as the documents behind a valid header: refused with an InputError of
// one line, or every request lies among the tokens, none is longer than the header allows, and the totals are
// those of the parts.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "configs/base/check.h"
#include "data/tokens/request_file.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

using depthroute::RequestFile;

void read_all(const RequestFile& file) {
  int64_t place = 0, scored = 0, longest = 0;
  size_t next = 0;
  for (size_t d = 0; d < file.documents().size(); ++d) {
    const depthroute::RequestDocument& document = file.documents()[d];
    DR_CHECK(document.first_request == static_cast<int64_t>(next) && document.requests >= 1);
    DR_CHECK(document.gold < document.requests);
    for (const depthroute::Request& request : file.requests_of(document)) {
      DR_CHECK(request.document == static_cast<int64_t>(d) && request.first_token == place);
      DR_CHECK(request.context >= 1 && request.continuation >= 1 && request.inputs() <= file.max_length());
      std::vector<int32_t> tokens(static_cast<size_t>(request.context + request.continuation));
      file.read(place, tokens);
      for (const int32_t token : tokens) DR_CHECK(token >= 0);
      place += static_cast<int64_t>(tokens.size());
      scored += request.continuation;
      longest = std::max(longest, request.inputs());
      ++next;
    }
  }
  DR_CHECK(next == file.requests().size() && scored == file.scored_tokens() && longest == file.longest());
  file.check_vocabulary(int64_t{1} << 31);
}

void try_text(const std::string& text) {
  const depthroute::MemoryFile bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  try {
    read_all(RequestFile(bytes.path()));
  } catch (const depthroute::InputError& error) {
    depthroute::check_message(error);
  }
}

/// A header that says what one line of `type` with one request of two tokens holds.
std::string header(const std::string& type) {
  return R"({"kind": "depthroute task requests", "version": 1, "task": "t", "output_type": ")" + type +
         R"(", "harness": "h", "tokenizer": "", "max_length": 9, "documents": 1, "requests": 1, "tokens": 2})"
         "\n";
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const std::string& text : depthroute::deep_texts(header("loglikelihood") + "{\"doc\": ", "}\n"))
    try_text(text);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_text(text);
  for (const char* type : {"loglikelihood", "multiple_choice", "loglikelihood_rolling"})
    try_text(header(type) + text + "\n");
  return 0;
}
