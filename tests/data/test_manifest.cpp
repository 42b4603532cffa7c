#include <gtest/gtest.h>

#include "data/files.h"
#include "data/manifest.h"
#include "tests/data/whole_manifest.h"
#include "tests/support/temp_folder.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    fs::create_directories(path_ + "/model/deep");
    write_raw(path_ + "/model/weights", "weights");
    write_raw(path_ + "/model/deep/more", "");
    write_raw(path_ + "/state.json", "{}");
    write_whole_manifest(path_, "depthroute checkpoint", 12);
  }
  std::string verify_message() const {
    return message_of([&] { verify_manifest(path_); });
  }
  /// Writes a manifest as somebody else might.
  std::string message_for(const std::string& manifest) const {
    write_raw(path_ + "/manifest.json", manifest);
    return verify_message();
  }

  const TempFolder folder_;
  const std::string path_ = folder_ / "step";
};

TEST_F(ManifestTest, ListsEveryFileSortedAndVerifies) {
  write_whole_manifest(path_, "depthroute checkpoint", 12);  // again: the manifest does not list itself
  const Manifest manifest = verify_manifest(path_);
  EXPECT_EQ(manifest.kind, "depthroute checkpoint");
  EXPECT_EQ(manifest.step, 12);
  ASSERT_EQ(manifest.files.size(), 3u);
  EXPECT_EQ(manifest.files[0].path, "model/deep/more");
  EXPECT_EQ(manifest.files[1].path, "model/weights");
  EXPECT_EQ(manifest.files[1].size, 7);
  EXPECT_EQ(manifest.files[1].checksum, hash_file(path_ + "/model/weights"));
  EXPECT_EQ(manifest.files[2].path, "state.json");
}

TEST_F(ManifestTest, DescriptionsTravelAsText) {
  const std::vector<ManifestFile> files = describe_all(path_);
  const std::vector<ManifestFile> back = files_from_json(files_to_json(files), "elsewhere");
  ASSERT_EQ(back.size(), files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(back[i].path, files[i].path);
    EXPECT_EQ(back[i].size, files[i].size);
    EXPECT_EQ(back[i].checksum, files[i].checksum);
  }
  EXPECT_TRUE(files_from_json(files_to_json({}), "elsewhere").empty());
  EXPECT_TRUE(has(message_of([] { files_from_json("{}", "elsewhere"); }), "elsewhere: the key \"files\""));
}

TEST_F(ManifestTest, WhatWasDescribedMustBeThereAndTensorsMustBeDescribed) {
  const std::vector<ManifestFile> files = describe_all(path_);
  const auto refusal = [&] { return message_of<SystemError>([&] { write_manifest(path_, "k", 1, files); }); };
  write_raw(path_ + "/model/weights", "weight");
  EXPECT_TRUE(has(refusal(), "model/weights: 7 bytes were written, but 6 are there"));
  fs::remove(path_ + "/model/weights");
  EXPECT_TRUE(has(refusal(), "model/weights: written, but cannot be found again"));
  write_raw(path_ + "/model/weights", "weights");
  for (const char* name : {"more.safetensors", "model/model.safetensors.index.json"}) {
    write_raw(path_ + "/" + name, "");
    EXPECT_TRUE(has(refusal(), std::string(name) + ": no rank of this job wrote it"));
    EXPECT_TRUE(has(verify_message(), "not listed in manifest.json")) << name;
    fs::remove(path_ + "/" + name);
  }
  write_raw(path_ + "/model/tokenizer.json", "{}");
  EXPECT_NO_THROW(write_manifest(path_, "k", 1, files));
  EXPECT_NO_THROW(verify_manifest(path_));
}

TEST_F(ManifestTest, ChangedByteIsFound) {
  write_raw(path_ + "/model/weights", "weighty");
  EXPECT_TRUE(has(verify_message(), "model/weights: checksum"));
}

TEST_F(ManifestTest, ChangedSizeIsFound) {
  write_raw(path_ + "/model/weights", "weight");
  EXPECT_TRUE(has(verify_message(), "model/weights: 6 bytes, but manifest.json says 7"));
}

TEST_F(ManifestTest, MissingFileIsFound) {
  fs::remove(path_ + "/model/deep/more");
  EXPECT_TRUE(has(verify_message(), "model/deep/more: missing"));
}

TEST_F(ManifestTest, MissingManifestIsFound) {
  fs::remove(path_ + "/manifest.json");
  EXPECT_TRUE(has(verify_message(), "no manifest.json"));
}

TEST_F(ManifestTest, TruncationAnywhereIsFound) {
  const std::string whole = read_file(path_ + "/manifest.json");
  for (size_t size = 0; size + 2 < whole.size(); ++size)  // the last two bytes are '}' and a line end
    EXPECT_FALSE(message_for(whole.substr(0, size)).empty());
}

TEST_F(ManifestTest, MalformedManifestsNameTheFault) {
  const std::string deep(1'000'000, '[');
  const std::string head = R"({"kind": "k", "version": 1, "step": 1, "files": )";
  const std::string sum = R"("size": 0, "checksum": "x")";
  const std::pair<std::string, std::string> cases[] = {
      {"not json", "not valid JSON"},
      {std::string("{}\0", 3), "it holds a zero byte"},
      {"[]", "not a JSON object"},
      {R"({"step": )" + deep + std::string(1'000'000, ']') + "}", "nested more than 64 levels deep"},
      {R"({"version": 1})", "\"kind\" is missing"},
      {R"({"kind": "k", "version": 2})", "version 2 is unknown"},
      {R"({"kind": "k", "kind": "l", "version": 1})", "the key \"kind\" is given twice"},
      {R"({"kind": "k", "version": 1, "step": -1})", "\"step\" is -1"},
      {R"({"kind": "k", "version": 1, "step": 1.5})", "\"step\" is 1.5"},
      {R"({"kind": "k", "version": 1, "step": 18446744073709551615})", "not a count"},
      {R"({"kind": 3, "version": 1})", "\"kind\" is 3, not a string"},
      {head + "{}}", "not a list"},
      {head + "[3]}", "3 stands where an object should"},
      {head + "[{}]}", "\"path\" is missing"},
      {head + R"([{"path": "a"}]})", "\"size\" is missing"},
      {head + R"([{"path": "a", "size": 0}]})", "\"checksum\" is missing"},
      {head + R"([{"path": "../a", )" + sum + "}]}", "leaves the folder"},
      {head + R"([{"path": "a/../../b", )" + sum + "}]}", "leaves the folder"},
      {head + R"([{"path": "/etc/passwd", )" + sum + "}]}", "leaves the folder"},
      {head + R"([{"path": "", )" + sum + "}]}", "leaves the folder"},
      {head + R"([{"path": "a\u0000b", )" + sum + "}]}", "leaves the folder"},
      {head + R"([{"path": "a", )" + sum + R"(}, {"path": "a", )" + sum + "}]}", "listed twice"},
      {head + R"([{"path": "model", )" + sum + "}]}", "missing"},  // a folder is not a file
  };
  for (const auto& [manifest, part] : cases) {
    const std::string text = message_for(manifest);
    EXPECT_TRUE(has(text, part)) << manifest << "\n" << text;
    EXPECT_TRUE(has(text, path_)) << text;
  }
}

}  // namespace
}  // namespace depthroute
