#include "tests/bench/job_runs.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <span>
#include <string>

#include "configs/base/check.h"

namespace depthroute::bench {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<int32_t> random_tokens(const TrainConfig& config, uint32_t seed) {
  std::vector<int32_t> tokens(static_cast<size_t>(config.train.micro_batch * config.data.seq_len));
  std::mt19937 random(seed);
  std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(config.model.vocab_size - 1));
  for (int32_t& t : tokens) t = token(random);
  return tokens;
}

/// Averages over ranks. The result is valid on rank 0 only.
Collectives::Statistics mean_over_ranks(World& world, const Collectives::Statistics& own) {
  std::string bytes(sizeof(own), '\0');
  std::memcpy(bytes.data(), &own, sizeof(own));
  Collectives::Statistics sum;
  for (const std::string& each : world.gather(bytes)) {
    Collectives::Statistics other;
    DR_CHECK(each.size() == sizeof(other));
    std::memcpy(&other, each.data(), sizeof(other));
    sum.bytes += other.bytes;
    sum.busy_seconds += other.busy_seconds;
    sum.exposed_seconds += other.exposed_seconds;
  }
  sum.bytes /= world.size();
  sum.busy_seconds /= world.size();
  sum.exposed_seconds /= world.size();
  return sum;
}

}  // namespace

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

JobBench::JobBench(World& world, const TrainConfig& config, Device device)
    : world_(world),
      config_(config),
      collectives_(world.make_collectives(device, {.deterministic = config.deterministic,
                                                   .backend = config.distributed.backend,
                                                   .timeout = world.timeout()})),
      step_(config, device, *collectives_),
      tokens_(random_tokens(config, 1)),
      targets_(random_tokens(config, 2)) {
  world.together([this] { step_.allocate(); });
  saver_.emplace(world, config_, step_);
  initialize_parameters(step_.layout(), config.seed, config.model.residual.recency_bias,
                        step_.model().parameters());
}

/// A step as the trainer runs it: tells the other ranks whether this rank's shard of a checkpoint is written,
/// and waits for the copy before anything changes.
double JobBench::one_step() {
  const Clock::time_point begin = Clock::now();
  const StepHooks hooks = {.flag = [this] { return int64_t{saver_->written()}; },
                           .before_update = [this] { saver_->wait_until_copied(); }};
  const BatchSource batch = [this](int64_t, int64_t, std::span<int32_t> tokens, std::span<int32_t> targets) {
    std::copy_n(tokens_.begin(), tokens.size(), tokens.begin());
    std::copy_n(targets_.begin(), targets.size(), targets.begin());
  };
  const StepResult result = step_.run(state_.step + 1, batch, hooks);
  ++state_.step;
  all_written_ =
      std::all_of(result.flags.begin(), result.flags.end(), [](int64_t flag) { return flag != 0; });
  return seconds_since(begin);
}

Communication JobBench::run(int64_t warm_up, int64_t steps) {
  for (int64_t i = 0; i < warm_up; ++i) one_step();
  step_.finish_update();  // what is still under way counts for the steps before
  world_.barrier();
  const Collectives::Statistics before = collectives_->statistics();
  Communication result;
  for (int64_t i = 0; i < steps; ++i) result.seconds.push_back(one_step());
  // Without what is still under way, which another step would hide.
  const double exposed = collectives_->statistics().exposed_seconds;
  step_.finish_update();
  Collectives::Statistics spent = collectives_->statistics();
  spent.bytes -= before.bytes;
  spent.busy_seconds -= before.busy_seconds;
  spent.exposed_seconds = exposed - before.exposed_seconds;
  const Collectives::Statistics mean = mean_over_ranks(world_, spent);
  const auto n = static_cast<double>(steps);
  result.busy = mean.busy_seconds / n;
  result.exposed = mean.exposed_seconds / n;
  result.bytes = static_cast<double>(mean.bytes) / n;
  return result;
}

Stretch JobBench::stretch(int64_t steps, bool save) {
  Stretch result;
  const auto commit = [&] {
    const Clock::time_point begin = Clock::now();
    saver_->commit();
    result.commit = seconds_since(begin);
  };
  world_.barrier();
  const Clock::time_point begin = Clock::now();
  if (save) {
    step_.gather_parameters();
    saver_->start(state_);
    result.start = seconds_since(begin);
  }
  for (int64_t i = 0; i < steps; ++i) {
    const bool saving = saver_->active();
    (saving ? result.saving : result.plain).push_back(one_step());
    if (saving && all_written_) commit();
  }
  result.outlasted = saver_->active();
  if (result.outlasted) commit();
  result.total = seconds_since(begin);
  return result;
}

Stalls JobBench::run_saving(int64_t rounds, int64_t steps) {
  Stalls result;
  // Warm up: the first save allocates the host memory of the copy.
  stretch(1, true);
  stretch(1, false);
  for (int64_t round = 0; round < rounds; ++round) {
    result.without.push_back(stretch(steps, false));
    result.with.push_back(stretch(steps, true));
  }
  result.without.push_back(stretch(steps, false));
  for (int64_t round = 0; round < rounds; ++round) {
    one_step();  // a new step, because a checkpoint's folder is named after its step
    result.synchronous.push_back(stretch(0, true).total);
  }
  return result;
}

}  // namespace depthroute::bench
