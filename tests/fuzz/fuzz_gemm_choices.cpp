// Any bytes as the contexts of a gemm_choices.json, under a checksum that fits: refused with an InputError of one
// line, or read, and then written and read again as the same. And any bytes as the whole file.
#include <nlohmann/json.hpp>
#include <string>

#include "data/files.h"
#include "tests/fuzz/scratch_folder.h"
#include "train/checkpoint/gemm_choices_file.h"

namespace {

void try_file(const std::string& text) {
  try {
    const auto stored = depthroute::gemm_choices_from_json(text, "choices");
    const std::string again = depthroute::gemm_choices_to_json(stored);
    DR_CHECK(depthroute::gemm_choices_from_json(again, "again") == stored);
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_file(text);
  const nlohmann::json contexts = nlohmann::json::parse(text, nullptr, false);
  if (contexts.is_discarded()) return 0;
  const std::string dumped = contexts.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string checksum = depthroute::hash_bytes(std::as_bytes(std::span<const char>(dumped)));
  try_file("{\"version\": 1, \"checksum\": \"" + checksum + "\", \"contexts\": " + text + "}");
  return 0;
}
