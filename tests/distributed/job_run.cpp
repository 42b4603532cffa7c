#include "tests/distributed/job_run.h"

#include "configs/read.h"
#include "tests/kernels/host_tensor.h"
#include "train/checkpoint/format.h"
#include "train/step.h"

namespace depthroute::testing_support {

std::vector<std::string> JobRun::arguments(const std::string& output, int64_t steps,
                                           const std::vector<std::string>& settings) {
  std::vector<std::string> result = {write_config(output, steps)};
  std::vector<std::string> all = {"deterministic=true",    "train.global_batch=16",    "train.micro_batch=1",
                                  "model.vocab_size=8192", "distributed.bucket_mib=1", "validate.every=10",
                                  "checkpoint.every=5",    "distributed.timeout=60"};
  all.insert(all.end(), settings.begin(), settings.end());
  for (const std::string& setting : all) {
    result.push_back("--set");
    result.push_back(setting);
  }
  return result;
}

Result JobRun::job(int processes, const std::string& output, int64_t steps,
                   const std::vector<std::string>& settings) {
  return run_under_mpi(processes, "depthroute-train", arguments(output, steps, settings), folder_);
}

Weights JobRun::weights(const std::string& output, int64_t step) const {
  const std::string folder = checkpoint(output, step);
  EXPECT_NO_THROW(verify_checkpoint(folder));
  TrainConfig config = read_train_config(folder + "/config.yaml", {});
  config.deterministic = false;  // one shard: no padding between the parameters of this reader
  TrainingStep reader(config, test::device());
  reader.allocate();
  load_checkpoint(folder, reader);
  const auto values = [](const Tensor& block) { return test::host_values(block); };
  return {values(reader.model().parameters()), values(reader.optimizer().m()),
          values(reader.optimizer().v())};
}

void JobRun::expect_same_result(const std::string& a, const std::string& b, int64_t step) const {
  EXPECT_TRUE(weights(a, step) == weights(b, step)) << a << " and " << b << " differ after step " << step;
  EXPECT_EQ(metrics(a), metrics(b)) << a << " and " << b;
}

}  // namespace depthroute::testing_support
