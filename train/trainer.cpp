#include "train/trainer.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "configs/base/error.h"
#include "data/model_folder.h"
#include "train/checkpoint.h"
#include "train/dry_run.h"
#include "train/metrics.h"
#include "train/model/weights.h"
#include "train/run_folder.h"
#include "train/signals.h"
#include "train/start.h"
#include "train/validation.h"

namespace depthroute {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Order order_of(const TrainConfig& config) {
  return config.data.order == "sequential" ? Order::sequential : Order::shuffled;
}

/// What a run reads.
struct Data {
  explicit Data(const TrainConfig& config, int64_t vocab_size)
      : tokens(config.data.train, vocab_size),
        train(tokens, config.data.seq_len, order_of(config), config.seed) {
    if (config.data.val.empty() || config.validate.every == 0) return;
    val_tokens.emplace(config.data.val, vocab_size);
    val.emplace(*val_tokens, config.data.seq_len, Order::sequential, config.seed);
  }
  TokenStream tokens;
  Batches train;
  std::optional<TokenStream> val_tokens;
  std::optional<Batches> val;
};

class Trainer {
 public:
  Trainer(const TrainConfig& config, const Start& start, const Data& data, Device device)
      : config_(config),
        data_(data),
        state_(start.state),
        step_(with_shape(config, start.model), device),
        metrics_(metrics_path(config.output)),
        progress_(state_.step + 1, config.train.steps) {
    step_.allocate();
    if (!start.checkpoint.empty())
      load_checkpoint(start.checkpoint, step_);
    else if (!start.model_folder.empty())
      load_parameters(step_.stream(), ModelFolder(start.model_folder), step_.layout(),
                      step_.model().parameters());
    else
      initialize_parameters(step_.layout(), config.seed, start.model.residual.recency_bias,
                            step_.model().parameters());
    state_.data_fingerprint = data.tokens.fingerprint();
    state_.val_fingerprint = data.val_tokens ? data.val_tokens->fingerprint() : "";
    announce(start);
  }

  int run() {
    while (state_.step < config_.train.steps) {
      one_step();
      const int64_t t = state_.step;
      const bool last = t == config_.train.steps;
      if (data_.val && (last || t % config_.validate.every == 0)) validate_now();
      const int signal = stop_requested();
      std::string saved;
      if (last || signal != 0 || (config_.checkpoint.every > 0 && t % config_.checkpoint.every == 0)) {
        metrics_.sync();
        saved = save_checkpoint(config_.output, config_, state_, step_);
      }
      if (signal == 0 || last) continue;
      progress_.message(
          fmt::format("stopped by SIG{} after step {}; {} is complete: start the same command to go on",
                      sigabbrev_np(signal), t, saved));
      return kExitInterrupted;
    }
    progress_.message(fmt::format("done: {} steps, {} tokens, {} skipped; {}/latest", state_.step,
                                  state_.tokens, state_.skipped_steps, checkpoints_path(config_.output)));
    return kExitOk;
  }

 private:
  static TrainConfig with_shape(TrainConfig config, const ModelConfig& model) {
    config.model = model;
    return config;
  }

  void announce(const Start& start) {
    progress_.message(fmt::format("{} on {}: {}", to_string(start.model.residual.variant),
                                  describe(step_.stream().device), describe_parameters(step_.layout())));
    if (!start.checkpoint.empty())
      progress_.message(fmt::format("going on after step {} of {}", state_.step, start.checkpoint));
    else if (!start.model_folder.empty())
      progress_.message(
          fmt::format("starting from the weights of {}, which also supply the shape", start.model_folder));
  }

  void one_step() {
    const Clock::time_point begin = Clock::now();
    const StepResult result = step_.run(state_.step + 1, data_.train.at(state_.position));
    seconds_ += seconds_since(begin);
    timed_tokens_ += config_.train.global_batch * config_.data.seq_len;

    ++state_.step;
    state_.position += config_.train.global_batch;
    state_.tokens += config_.train.global_batch * config_.data.seq_len;
    state_.bad_in_a_row = result.applied ? 0 : state_.bad_in_a_row + 1;
    state_.skipped_steps += result.applied ? 0 : 1;

    const bool due =
        state_.step % config_.log.every == 0 || state_.step == config_.train.steps || !result.applied;
    const double tokens_per_s = static_cast<double>(timed_tokens_) / std::max(seconds_, 1e-9);
    progress_.step(state_.step, result.loss, result.lr, result.grad_norm, tokens_per_s, due);
    if (due) {
      metrics_.write({{"step", state_.step},
                      {"loss", result.loss},
                      {"grad_norm", result.grad_norm},
                      {"lr", result.lr},
                      {"tokens", state_.tokens},
                      {"epoch", data_.train.epoch(state_.position - 1)},
                      {"skipped", state_.skipped_steps},
                      {"tokens_per_s", tokens_per_s}});
      seconds_ = 0;
      timed_tokens_ = 0;
    }
    if (state_.bad_in_a_row >= config_.train.max_bad_steps)
      throw TrainingError(fmt::format(
          "step {}: loss {} and gradient norm {}: {} steps in a row were not finite and were skipped; {} "
          "keeps the last "
          "checkpoints: lower optimizer.lr or look at the data there",
          state_.step, result.loss, result.grad_norm, state_.bad_in_a_row, checkpoints_path(config_.output)));
  }

  void validate_now() {
    const Clock::time_point begin = Clock::now();
    nlohmann::ordered_json line = {{"step", state_.step}};
    line.update(validate(step_, *data_.val, config_.validate.sequences));
    line["val_seconds"] = seconds_since(begin);
    metrics_.write(line);
    progress_.message(
        fmt::format("step {}  validation loss {:.4f}", state_.step, line["val_loss"].get<double>()));
  }

  TrainConfig config_;
  const Data& data_;
  RunState state_;
  TrainingStep step_;
  MetricsLog metrics_;
  Progress progress_;
  double seconds_ = 0;  // of the steps since the last logged one, validation and checkpoints left out
  int64_t timed_tokens_ = 0;
};

}  // namespace

int train(const TrainConfig& config) {
  const Device device = resolve_device(config.device);
  // A run may only look for its checkpoints with the lock held; a new run takes it when its input is known to
  // be good.
  std::optional<RunLock> lock;
  if (!list_checkpoints(config.output).empty()) lock.emplace(config.output);
  const Start start = choose_start(config);
  const Data data(config, start.model.vocab_size);
  if (!start.checkpoint.empty())
    refuse_changes(start.checkpoint, config, start.state, data.tokens.fingerprint());
  if (!lock) lock.emplace(config.output);
  if (start.state.step >= config.train.steps) {
    fmt::print("nothing to do: {} is at step {} of {}\n", start.checkpoint, start.state.step,
               config.train.steps);
    return kExitOk;
  }

  std::error_code error;
  std::filesystem::create_directories(checkpoints_path(config.output), error);
  if (error) throw SystemError("{}: cannot be made: {}", checkpoints_path(config.output), error.message());
  clean_leftovers(config.output);
  rewind_metrics(metrics_path(config.output), start.state.step);
  install_stop_signals();
  return Trainer(config, start, data, device).run();
}

}  // namespace depthroute
