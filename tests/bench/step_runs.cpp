#include "tests/bench/step_runs.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "kernels/gemm_choices.h"
#include "kernels/ops/ops.h"
#include "train/dry_run.h"
#include "train/step.h"

namespace depthroute::bench {

namespace {

using Clock = std::chrono::steady_clock;

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// One batch of random tokens, the same for every step, so that drawing them is not measured.
class RandomBatch {
 public:
  RandomBatch(const TrainConfig& config)
      : tokens_(static_cast<size_t>(config.train.micro_batch * config.data.seq_len)),
        targets_(tokens_.size()) {
    std::mt19937 random(1);
    std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(config.model.vocab_size - 1));
    for (int32_t& t : tokens_) t = token(random);
    for (int32_t& t : targets_) t = token(random);
  }
  BatchSource source() const {
    return [this](int64_t, int64_t, std::span<int32_t> tokens, std::span<int32_t> targets) {
      std::copy_n(tokens_.begin(), tokens.size(), tokens.begin());
      std::copy_n(targets_.begin(), targets.size(), targets.begin());
    };
  }

 private:
  std::vector<int32_t> tokens_, targets_;
};

double peak_resident_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void initialize(TrainingStep& step, const TrainConfig& config, std::vector<float>* kept) {
  const Tensor parameters = step.model().parameters();
  if (!kept) return initialize_parameters(step.layout(), config.seed, 0, parameters);
  const Tensor host = host_tensor(kept->data(), parameters.shape);
  if (!kept->empty()) return ops::copy(step.stream(), host, parameters);
  initialize_parameters(step.layout(), config.seed, 0, parameters);
  kept->resize(static_cast<size_t>(parameters.numel()));
  ops::copy(step.stream(), parameters, host_tensor(kept->data(), parameters.shape));
  synchronize(step.stream());
}

/// Chooses the algorithms of matrix products as a run does; in later rounds the same, without timing them again.
void settle_products(TrainingStep& step, const TrainConfig& config, const StepRuns& runs) {
  if (!has_gemm_choices(step.stream().device) || !config.train.tune_products) return;
  static std::map<std::pair<std::string, int64_t>, GemmChoices> known;
  const auto [at, is_new] = known.try_emplace({runs.variant, config.train.micro_batch});
  if (!is_new) return use_gemm_choices(step.stream(), at->second);
  at->second = tune_gemm(step.stream(), [&] { step.rehearse(); });
  for (const std::string& line : report(at->second)) fmt::print("choice: {}\n", line);
}

Stream profiled_stream;
void wait_for_device() { synchronize(profiled_stream); }

}  // namespace

double StepRuns::best() const {
  double best = 1e30;
  for (const std::vector<double>& round : seconds)
    best = std::min(best, *std::min_element(round.begin(), round.end()));
  return best;
}

double StepRuns::median() const {
  std::vector<double> all;
  for (const std::vector<double>& round : seconds) all.insert(all.end(), round.begin(), round.end());
  return median_of(all);
}

double StepRuns::round_median(size_t round) const { return median_of(seconds.at(round)); }

void StepBench::run_round(const TrainConfig& config, int64_t steps, StepRuns& runs) {
  TrainingStep step(config, target_.device);
  step.allocate();
  // On the CPU, a copy of the weights would count as memory of the step.
  initialize(step, config, target_.cuda() ? &weights_[runs.variant] : nullptr);
  settle_products(step, config, runs);
  const RandomBatch batch(config);
  const int64_t warm_up = target_.cuda() ? 3 : 1;  // the second may record a graph
  for (int64_t t = 1; t <= warm_up; ++t) step.run(t, batch.source());
  std::vector<double> seconds;
  for (int64_t t = warm_up + 1; t <= warm_up + steps; ++t) {
    if (!target_.cuda()) Profile::start();
    const Clock::time_point begin = Clock::now();
    runs.loss = step.run(t, batch.source()).loss;  // waits for the device
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    Profile::stop();
    if (!target_.cuda() && seconds.back() <= *std::min_element(seconds.begin(), seconds.end())) {
      runs.profile = Profile::entries;
      runs.profile_seconds = seconds.back();
    }
  }
  runs.seconds.push_back(std::move(seconds));
  runs.flops_per_token = Qwen3::train_flops_per_token(config.model, config.data.seq_len);
  runs.planned_bytes = step.arena().total_bytes();
  runs.device_bytes = device_bytes_in_use(target_);
  runs.peak_resident_mib = peak_resident_mib();
  runs.memory = describe_memory(step);
}

void StepBench::run_profile(TrainConfig config, StepRuns& runs) {
  config.train.cuda_graph = false;  // a replayed graph has no ops to time
  TrainingStep step(config, target_.device);
  step.allocate();
  initialize(step, config, &weights_[runs.variant]);
  settle_products(step, config, runs);
  const RandomBatch batch(config);
  for (int64_t t = 1; t <= 2; ++t) step.run(t, batch.source());
  profiled_stream = step.stream();
  Profile::wait = wait_for_device;
  Profile::start();
  const Clock::time_point begin = Clock::now();
  step.run(3, batch.source());
  runs.profile_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  Profile::stop();
  Profile::wait = nullptr;
  runs.profile = Profile::entries;
}

}  // namespace depthroute::bench
