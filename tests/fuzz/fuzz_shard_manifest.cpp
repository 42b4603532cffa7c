// Any bytes as the manifest beside a token shard: refused with an InputError of one line, or the stream is what
// the manifest lists, and the manifest says the same when it is written and read again.
#include <string>

#include "configs/base/check.h"
#include "configs/base/error.h"
#include "data/files.h"
#include "data/tokens/shard_manifest.h"
#include "data/tokens/token_stream.h"
#include "tests/fuzz/scratch_folder.h"

namespace {

constexpr const char* kName = "set/t.shards.json";
constexpr int64_t kVocabSize = 256;

const depthroute::ScratchFolder& folder() {
  static const depthroute::ScratchFolder scratch;
  static const bool filled = [] {
    scratch.write(kName, "");
    scratch.write("again/x", "");
    depthroute::ShardWriter writer(scratch / "set/t.bin", kVocabSize);
    writer.append(std::vector<int32_t>{1, 2, 3});
    writer.close();
    return true;
  }();
  (void)filled;
  return scratch;
}

void check_same(const depthroute::ShardManifest& a, const depthroute::ShardManifest& b) {
  DR_CHECK(a.name == b.name && a.vocab_size == b.vocab_size && a.token_bytes == b.token_bytes);
  DR_CHECK(a.separator == b.separator && a.documents == b.documents && a.tokens() == b.tokens());
  DR_CHECK(a.tokenizer.has_value() == b.tokenizer.has_value());
  if (a.tokenizer) DR_CHECK(a.tokenizer->same_as(*b.tokenizer) && a.tokenizer->file == b.tokenizer->file);
  DR_CHECK(a.files.size() == b.files.size() && a.sources.size() == b.sources.size());
  for (size_t i = 0; i < a.files.size(); ++i)
    DR_CHECK(a.files[i].path == b.files[i].path && a.files[i].checksum == b.files[i].checksum);
}

void check_accepted(const depthroute::ShardManifest& manifest) {
  DR_CHECK(manifest.vocab_size >= 1 && (manifest.token_bytes == 2 || manifest.token_bytes == 4));
  DR_CHECK(manifest.tokens() >= 0);
  DR_CHECK(!manifest.separator || (*manifest.separator >= 0 && *manifest.separator < manifest.vocab_size));
  for (const depthroute::TokenFile& file : manifest.files)
    DR_CHECK(file.path.find('/') == std::string::npos && file.tokens >= 0);
  depthroute::write_shard_manifest(folder() / "again", manifest);
  check_same(manifest, depthroute::read_shard_manifest(folder() / "again/t.shards.json"));
}

void try_manifest(const std::string& text) {
  folder().write(kName, text);
  try {
    check_accepted(depthroute::read_shard_manifest(folder() / kName));
    const depthroute::TokenStream stream({folder() / "set/t.bin"}, kVocabSize);
    const depthroute::StreamManifest& said = stream.manifest();
    DR_CHECK(said.shards.size() == 1);
    DR_CHECK(!said.separator || !said.shards[0].manifest.empty());
    const depthroute::ShardContents contents = stream.read_contents(0);
    stream.check_contents(0, contents);
    DR_CHECK(said.shards[0].manifest.empty() || said.shards[0].checksum == contents.checksum);
  } catch (const depthroute::InputError& error) {
    check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  for (const std::string& text : depthroute::deep_texts("{\"kind\": ", "}")) try_manifest(text);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try_manifest(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
