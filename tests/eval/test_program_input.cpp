// depthroute-eval and inputs that cannot work: refused with one line and status 2 before anything is
// measured, and nothing is written, not even a folder.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>

#include "data/atomic_path.h"
#include "data/files.h"
#include "data/model/model_folder.h"
#include "eval/results/unit_store.h"
#include "tests/eval/eval_program.h"

namespace depthroute {
namespace {

namespace fs = std::filesystem;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct HostTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

class EvalInput : public EvalProgram {
 protected:
  /// A copy of a golden model, one of whose tensors `change` has changed.
  std::string changed_model(const std::string& golden, const std::string& name,
                            const std::function<void(HostTensor&)>& change) {
    const std::string folder = (models_ / std::to_string(++changed_));
    fs::copy(golden_folder(golden), folder, fs::copy_options::recursive);
    std::vector<HostTensor> tensors;
    std::vector<TensorToWrite> written;
    {
      const SafetensorsFile file(folder + "/model.safetensors");
      tensors.reserve(file.entries().size());
      for (const TensorEntry& entry : file.entries()) {
        HostTensor& tensor = tensors.emplace_back(
            HostTensor{entry.shape, std::vector<float>(static_cast<size_t>(entry.numel()))});
        file.read_float(entry, tensor.values);
        if (entry.name == name) change(tensor);
        written.push_back({entry.name, tensor.shape, tensor.values});
      }
    }
    write_safetensors(folder + "/model.safetensors", written, model_metadata());
    return folder;
  }
  std::string from(const std::string& model) const { return " --set model.from=" + model; }

  TempFolder models_;
  int changed_ = 0;
};

constexpr const char* kTensor = "model.layers.2.mlp.down_proj.weight";

TEST_F(EvalInput, WeightsThatAreNotFiniteAreNamed) {
  const std::string wrap = " --set model.wrap.num_blocks=3";
  const std::string place = " --set output=" + folder_ / "new/sub/results.h5";
  for (const float bad : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity})
    for (const std::string golden : {"cumulative", "additive"}) {
      int64_t width = 0;
      const std::string model = changed_model(golden, kTensor, [&](HostTensor& tensor) {
        width = tensor.shape[1];
        tensor.values[static_cast<size_t>(3 * width + 5)] = bad;
        tensor.values.back() = bad;  // the first one is told
      });
      const std::string said = fmt::format("{}: tensor \"{}\" holds {} at [3, 5]",
                                           std::filesystem::canonical(model).string(), kTensor, bad);
      expect_refused(config_text(golden), said, from(model) + place + (golden == "additive" ? wrap : ""));
      if (bad > 0) expect_refused(config_text(golden), said, from(model) + place + " --part 1/3");
    }
  const std::string large = changed_model("cumulative", kTensor, [](HostTensor& tensor) {
    tensor.values[0] = std::numeric_limits<float>::max();
  });
  EXPECT_NE(run(config_text("cumulative"), from(large)).status, 2);
}

TEST_F(EvalInput, ADryRunChecksNamesAndShapesAsTheRunDoes) {
  const auto refused = [&](const std::string& golden, const std::string& model, const std::string& said,
                           const std::string& more) {
    const std::string arguments = from(model) + more;
    expect_refused(config_text(golden), said, arguments + " --dry-run");
    expect_refused(config_text(golden), said, arguments + " --dry-run --part 0/2");
    expect_refused(config_text(golden), said, arguments);
  };
  for (const std::string golden : {"cumulative", "additive"})
    for (const std::string more : {"", " --set model.wrap.num_blocks=3"}) {
      if (golden == "cumulative" && !more.empty()) continue;
      const std::string turned = changed_model(
          golden, kTensor, [](HostTensor& tensor) { std::swap(tensor.shape[0], tensor.shape[1]); });
      refused(golden, turned, std::string(kTensor) + "\" has shape", more);
      const std::string missing = models_ / "missing";
      fs::copy(golden_folder(golden), missing, fs::copy_options::recursive);
      fs::copy_file(golden_folder(golden == "additive" ? "kimi" : "additive") + "/model.safetensors",
                    missing + "/model.safetensors", fs::copy_options::overwrite_existing);
      refused(golden, missing, "tensor(s)", more);
      fs::remove_all(missing);
    }
}

TEST_F(EvalInput, AnOutputThatCannotBecomeAFileIsRefusedAtTheStart) {
  const std::string text = config_text("reset");
  ASSERT_EQ(mkfifo((models_ / "fifo").c_str(), 0600), 0);
  fs::create_symlink("loop", models_ / "loop");
  fs::create_directory(models_ / "folder");
  write_file_atomically(models_ / "part.units", "");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "output must not be empty"},
      {".", "is a folder"},
      {"..", "is a folder"},
      {"/", "is a folder"},
      {folder_ / "new/", "is a folder; name a file, for example " + folder_ / "new/results.h5"},
      {folder_ / "new//", "is a folder"},
      {folder_ / "new/.", "is a folder"},
      {folder_ / "new/..", "is a folder"},
      {folder_ / "val.bin/", "is a folder"},
      {models_ / "folder", "is a folder"},
      {folder_ / "val.bin/sub/results.h5", "val.bin is not a folder"},
      {models_ / "fifo", "is not a results file"},
      {(models_ / "fifo") + "/results.h5", "fifo is not a folder"},
      {models_ / "loop", "cannot be accessed"},
      {(models_ / "loop") + "/results.h5", "cannot be accessed"},
      {"/dev/null", "is not a results file"},
      {"/dev/full", "is not a results file"},
      {(folder_ / std::string(240, 'n')), "is longer than"},
      {(folder_ / std::string(300, 'n')), "cannot be accessed"},
  };
  const std::vector<std::string> modes = {"", " --dry-run", " --part 0/2", " --merge 2"};
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string arguments = "--set output='\"" + cases[i].first + "\"'" + modes[i % modes.size()];
    SCOPED_TRACE(arguments);
    expect_refused(text, cases[i].second, arguments);
  }
  expect_refused(text, "part.units is not a folder", "--set output=" + (models_ / "part") + " --part 0/2");
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(models_.path())) left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"fifo", "folder", "loop", "part.units"}));
}

TEST_F(EvalInput, AFileOfTheUsersIsNeverTakenForALock) {
  const std::string lock = models_ / "poetry.lock", output = " --set output=" + models_ / "poetry";
  write_file_atomically(lock, "dependencies");
  expect_refused(config_text("reset"), "poetry.lock: is no lock", output);
  EXPECT_EQ(read_file(lock), "dependencies");
}

TEST_F(EvalInput, AUnitThatCannotBeReadIsNeitherDamagedNorMeasuredAgain) {
  const std::string obeying = obeying_permissions();
  if (obeying == kNothingObeys) GTEST_SKIP() << "run by root, and setpriv cannot take its privileges away";
  const std::string text = config_text("kimi");
  for (const char* part : {"0/2", "1/2"}) ASSERT_EQ(run(text, std::string("--part ") + part).status, 0);
  std::string path;  // the last unit, of part 1
  for (const auto& entry : fs::recursive_directory_iterator(units_folder(results())))
    if (entry.path().extension() == ".h5") path = std::max(path, entry.path().string());
  const std::string whole = read_file(path);
  const auto refused = [&](const std::string& said, const std::string& arguments) {
    const Ran ran = run_shell(obeying, text, arguments);
    EXPECT_EQ(ran.status, 2) << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    for (const std::string& word : {path, said}) EXPECT_NE(ran.err.find(word), std::string::npos) << ran.err;
    for (const char* wrong : {"again", "damaged", "remove"})
      EXPECT_EQ(ran.err.find(wrong), std::string::npos) << ran.err;
    EXPECT_FALSE(fs::exists(results()));
  };
  fs::permissions(path, fs::perms::none);
  refused("cannot open", "--part 1/2");
  refused("cannot open", "--merge 2");
  fs::permissions(path, fs::perms::owner_all);
  EXPECT_EQ(read_file(path), whole);

  fs::rename(path, folder_ / "whole");
  fs::create_directory(path);
  refused("is a folder, not a file", "--part 1/2");
  fs::remove(path);
  fs::create_symlink(path, path);
  refused("cannot open", "--part 1/2");
  refused("cannot open", "--merge 2");
  fs::remove(path);
  fs::rename(folder_ / "whole", path);
  EXPECT_EQ(run(text, "--merge 2").status, 0);
}

}  // namespace
}  // namespace depthroute
