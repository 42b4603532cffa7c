// Files of task requests written by hand.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <string>
#include <vector>

namespace depthroute::testing_support {

/// One request; `more` is put behind it, such as R"(, "characters": 3, "bytes": 3)".
inline std::string request(const std::vector<int32_t>& context, const std::vector<int32_t>& continuation,
                           const std::string& more = "", int64_t cut = 0) {
  return fmt::format(R"({{"context": [{}], "continuation": [{}], "cut": {}{}}})", fmt::join(context, ", "),
                     fmt::join(continuation, ", "), cut, more);
}
inline std::string choice(const std::vector<int32_t>& context, const std::vector<int32_t>& continuation,
                          int64_t characters) {
  return request(context, continuation,
                 fmt::format(R"(, "characters": {}, "bytes": {})", characters, characters));
}

/// A document; `more` as R"("gold": 1, )".
inline std::string document(int64_t number, const std::vector<std::string>& requests,
                            const std::string& more = "") {
  return fmt::format(R"({{"doc": {}, {}"requests": [{}]}})", number, more, fmt::join(requests, ", "));
}

/// A whole file whose header counts what `documents` hold.
inline std::string request_text(const std::string& output_type, const std::vector<std::string>& documents,
                                int64_t max_length = 64, const std::string& tokenizer = "") {
  std::string lines;
  int64_t requests = 0, tokens = 0;
  for (const std::string& text : documents) {
    lines += text + "\n";
    for (size_t at = text.find("\"cut\""); at != std::string::npos; at = text.find("\"cut\"", at + 1))
      ++requests;
    for (const char* list : {"\"context\": [", "\"continuation\": ["})
      for (size_t at = text.find(list); at != std::string::npos; at = text.find(list, at + 1)) {
        const size_t begin = text.find('[', at), end = text.find(']', at);
        const std::string inside = text.substr(begin + 1, end - begin - 1);
        tokens += inside.empty() ? 0 : 1;
        for (const char c : inside) tokens += c == ',';
      }
  }
  return fmt::format(
             R"({{"kind": "depthroute task requests", "version": 1, "task": "by_hand", "output_type": "{}", )"
             R"("harness": "none", "tokenizer": "{}", "max_length": {}, "documents": {}, "requests": {}, )"
             R"("tokens": {}}})"
             "\n",
             output_type, tokenizer, max_length, documents.size(), requests, tokens) +
         lines;
}

}  // namespace depthroute::testing_support
