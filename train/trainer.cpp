#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "configs/base/error.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "data/files.h"
#include "data/model/model_folder.h"
#include "kernels/collectives/launcher.h"
#include "train/checkpoint/format.h"
#include "train/checkpoint/run_folder.h"
#include "train/checkpoint/saver.h"
#include "train/dry_run.h"
#include "train/metrics.h"
#include "train/model/weights.h"
#include "train/product_choices.h"
#include "train/run_data.h"
#include "train/signals.h"
#include "train/start.h"
#include "train/tensorboard.h"
#include "train/validation.h"

namespace depthroute {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What each rank tells the others with a step's result (StepHooks::flag).
constexpr int64_t kSignalMask = 0xff, kFilesWritten = 0x100;

class Trainer {
 public:
  /// Allocates all memory and loads the weights; writes nothing. Collective, like everything below.
  Trainer(World& world, const TrainConfig& config, const Start& start, const RunData& data, Device device)
      : world_(world),
        config_(config),
        data_(data),
        state_(start.state),
        collectives_(world.make_collectives(device, {.deterministic = config.deterministic,
                                                     .backend = config.distributed.backend,
                                                     .timeout = world.timeout()})),
        step_(step_config(config, start.model, data), device, *collectives_) {
    state_.data_fingerprint = data.fingerprint;
    state_.val_fingerprint = data.val_fingerprint;
    state_.tokenizer = data.tokenizer;
    world.together([&] {
      step_.allocate();
      saver_.emplace(world, config_, step_,
                     world.is_rank_0() ? companions_of(start, config, data.tokenizer) : Companions());
      if (!start.checkpoint.empty())
        load_checkpoint(start.checkpoint, step_);
      else if (start.model_folder)
        load_parameters(step_.stream(), *start.model_folder, step_.layout(), step_.model().parameters());
      else
        initialize_parameters(step_.layout(), config.seed, start.model.residual.recency_bias,
                              step_.model().parameters());
    });
  }

  void settle_products(const Start& start) {
    product_notes_ = depthroute::settle_products(world_, config_, start, step_);
  }

  int run(const Start& start) {
    world_.together([&] {
      if (!world_.is_rank_0()) return;
      log_.emplace(metrics_path(config_.output), state_.step + 1, config_.train.steps);
      if (config_.log.tensorboard) log_->tensorboard.emplace(tensorboard_path(config_.output), state_.step);
    });
    announce(start);
    if (config_.checkpoint.initial && start.checkpoint.empty()) save();
    bool due = false;  // whether a checkpoint should be saved
    while (state_.step < config_.train.steps) {
      const int signal = one_step();
      const int64_t t = state_.step;
      const bool last = t == config_.train.steps;
      if (data_.val && (last || t % config_.validate.every == 0)) validate_now();
      due = due || last || signal != 0 || (config_.checkpoint.every > 0 && t % config_.checkpoint.every == 0);
      // Weights that gave a non-finite loss are not worth the place of a good checkpoint: wait for the next
      // finite step. The last step cannot wait, but no earlier checkpoint is deleted for it
      // (finish_saving()).
      if (due && (!in_bad_streak() || last)) {
        save();
        due = false;
      }
      if (signal != 0 && !last) return stop(signal);
    }
    finish_saving();
    say(fmt::format("done: {} steps, {} tokens, {} skipped; {}", state_.step, state_.tokens,
                    state_.skipped_steps, latest_path(config_.output)));
    if (in_bad_streak())
      say(fmt::format(
          "warning: the last {} steps were not finite and were skipped: look at the earlier checkpoints",
          state_.bad_in_a_row));
    return kExitOk;
  }

 private:
  /// What only rank 0 writes.
  struct Log {
    Log(const std::string& path, int64_t first_step, int64_t steps)
        : metrics(path), progress(first_step, steps, !launch_of_environment().launcher.empty()) {}
    void write(const nlohmann::ordered_json& line) {
      metrics.write(line);
      if (tensorboard) tensorboard->write(line);
    }
    void sync() {
      metrics.sync();
      if (tensorboard) tensorboard->sync();
    }
    MetricsLog metrics;
    TrainingProgress progress;
    std::optional<TensorBoardLog> tensorboard;
  };

  /// With the shape of the model, and the number of sequences that a validation really has.
  static TrainConfig step_config(TrainConfig config, const ModelConfig& model, const RunData& data) {
    config.model = model;
    config.validate.sequences = data.val ? std::min(config.validate.sequences, data.val->num_samples()) : 0;
    return config;
  }

  void say(const std::string& text) {
    if (log_) log_->progress.message(text);
  }

  void announce(const Start& start) {
    say(fmt::format("{} on {}: {}", to_string(start.model.residual.variant), describe(step_.stream().device),
                    describe_parameters(step_.layout())));
    if (const std::string slow = step_.model().attention_notes().slow; !slow.empty()) say("warning: " + slow);
    if (world_.size() > 1) say(collectives_->describe());
    for (const std::string& line : product_notes_) say(line);
    if (!start.checkpoint.empty())
      say(fmt::format("resuming after step {} of {}", state_.step, start.checkpoint));
    else if (start.model_folder)
      say(fmt::format("starting from the weights of {}, which also supply the shape",
                      start.model_folder->path()));
  }

  bool in_bad_streak() const { return state_.bad_in_a_row > 0; }

  void save() {
    finish_saving();  // of an earlier step, if it is still being saved
    step_.gather_parameters();
    if (log_) log_->sync();
    saver_->start(state_);
  }

  int stop(int signal) {
    const std::string saved = finish_saving();
    const std::string when = fmt::format("stopped by SIG{} after step {}", sigabbrev_np(signal), state_.step);
    if (in_bad_streak())
      say(fmt::format(
          "{}, the {}th in a row that was not finite: not saved; run the same command again to resume from {}",
          when, state_.bad_in_a_row, latest_path(config_.output)));
    else
      say(fmt::format("{}; {} is complete: run the same command again to resume", when, saved));
    return kExitInterrupted;
  }

  /// Returns the signal that any rank got, or 0: the same on all ranks, so that they stop at the same step.
  int one_step() {
    const Clock::time_point begin = Clock::now();
    const StepHooks hooks = {
        .flag = [this] { return stop_requested() | (saver_->written() ? kFilesWritten : 0); },
        .before_update = [this] { saver_->wait_until_copied(); }};
    const StepResult result = step_.run(state_.step + 1, data_.train.at(state_.position), hooks);
    seconds_ += seconds_since(begin);
    timed_tokens_ += config_.train.global_batch * config_.data.seq_len;

    ++state_.step;
    state_.position += config_.train.global_batch;
    state_.tokens += config_.train.global_batch * config_.data.seq_len;
    state_.bad_in_a_row = result.applied ? 0 : state_.bad_in_a_row + 1;
    state_.skipped_steps += result.applied ? 0 : 1;
    if (log_) report(result);
    if (state_.bad_in_a_row >= config_.train.max_bad_steps) {
      finish_saving();
      world_.together([&] { give_up(result); });
    }

    int signal = 0;
    bool all_written = true;
    for (const int64_t flag : result.flags) {
      if (signal == 0) signal = static_cast<int>(flag & kSignalMask);
      all_written = all_written && (flag & kFilesWritten) != 0;
    }
    if (all_written) finish_saving();
    return signal;
  }

  void report(const StepResult& result) {
    const bool due =
        state_.step % config_.log.every == 0 || state_.step == config_.train.steps || !result.applied;
    const double tokens_per_s = static_cast<double>(timed_tokens_) / std::max(seconds_, 1e-9);
    log_->progress.step(state_.step, result.loss, result.lr, result.grad_norm, tokens_per_s, due);
    if (!due) return;
    nlohmann::ordered_json line = {{"step", state_.step},
                                   {"loss", result.loss},
                                   {"grad_norm", result.grad_norm},
                                   {"lr", result.lr},
                                   {"tokens", state_.tokens},
                                   {"epoch", data_.train.epoch(state_.position - 1)},
                                   {"skipped", state_.skipped_steps},
                                   {"tokens_per_s", tokens_per_s}};
    for (int64_t source = 0; source < data_.train.num_sources() && data_.train.num_sources() > 1; ++source)
      line["source_epochs"].push_back(data_.train.epoch(source, state_.position - 1));
    log_->write(line);
    seconds_ = 0;
    timed_tokens_ = 0;
  }

  [[noreturn]] void give_up(const StepResult& result) const {
    throw TrainingError(fmt::format(
        "step {}: loss {} and gradient norm {}: {} steps in a row were not finite and were skipped; "
        "{} keeps the last checkpoints: lower optimizer.lr or look at the data there",
        state_.step, result.loss, result.grad_norm, state_.bad_in_a_row, checkpoints_path(config_.output)));
  }

  /// Completes the checkpoint that is being written and returns its path, or "" if there is none. Deletes no
  /// earlier ones while steps are not finite: nobody knows then which checkpoint was the last good one.
  std::string finish_saving() {
    if (!saver_->active()) return "";
    return saver_->commit(in_bad_streak() ? CheckpointSaver::Earlier::keep_all
                                          : CheckpointSaver::Earlier::prune);
  }

  void validate_now() {
    const Clock::time_point begin = Clock::now();
    step_.finish_update();
    nlohmann::ordered_json line = {{"step", state_.step}};
    const nlohmann::ordered_json result = validate(world_, step_, *data_.val, config_.validate.sequences);
    if (!log_) return;
    line.update(result);
    line["val_seconds"] = seconds_since(begin);
    log_->write(line);
    say(fmt::format("step {}  validation loss {:.4f}", state_.step, line["val_loss"].get<double>()));
  }

  World& world_;
  TrainConfig config_;
  const RunData& data_;
  RunState state_;
  std::unique_ptr<Collectives> collectives_;
  TrainingStep step_;
  std::optional<CheckpointSaver> saver_;
  std::optional<Log> log_;
  std::vector<std::string> product_notes_;
  double seconds_ = 0;  // of the steps since the last logged one, validation and checkpoints left out
  int64_t timed_tokens_ = 0;
};

/// Rank 0 decides for all ranks where the run starts, with the lock held if an earlier run left anything.
Start agree_on_start(World& world, const TrainConfig& config, std::optional<RunLock>& lock) {
  Start start;
  world.together([&] {
    if (!world.is_rank_0()) return;
    // A new run takes the lock once its input is known to be good; until then it writes nothing.
    if (!lock && has_checkpoints(config.output)) lock.emplace(config.output);
    if (lock) restore_latest_folder(config.output);
    start = choose_start(config);
    const std::string parent = std::filesystem::path(start.checkpoint).parent_path().string();
    if (lock && parent == checkpoints_path(config.output)) mend_latest(config.output, start.checkpoint);
  });
  const std::string chosen = world.broadcast(world.is_rank_0() ? start_to_text(start) : "");
  world.together([&] {
    if (!world.is_rank_0()) start = start_from_text(chosen, config);
  });
  return start;
}

/// Takes the lock if it is not held. Returns whether another run left checkpoints since we looked for them:
/// what was decided without the lock does not hold then.
bool lock_finds_checkpoints(World& world, const TrainConfig& config, std::optional<RunLock>& lock) {
  bool found = false;
  world.together([&] {
    if (!world.is_rank_0() || lock) return;
    lock.emplace(config.output);
    found = has_checkpoints(config.output);
  });
  return world.broadcast(found ? "found" : "") == "found";
}

/// Prepares the output folder. On rank 0.
void prepare_output(const TrainConfig& config, const Start& start, const ContentsCache& cache) {
  std::error_code error;
  std::filesystem::create_directories(checkpoints_path(config.output), error);
  if (error) throw SystemError("{}: cannot be made: {}", checkpoints_path(config.output), error.message());
  clean_leftovers(config.output);
  cache.save();
  rewind_metrics(metrics_path(config.output), start.state.step);
}

/// Trains to the end and returns the exit status, or nullopt if the run must begin again with the lock that
/// is now held.
std::optional<int> train_once(World& world, const TrainConfig& config, Device device,
                              std::optional<RunLock>& lock) {
  const Start start = agree_on_start(world, config, lock);
  std::optional<RunData> data;
  world.together([&] { data.emplace(config, start.model.vocab_size); });
  world.require_equal(fmt::format("the tokens of {}", train_data_key(config)), data->outline());
  world.require_equal("the tokens of data.val", data->val_tokens ? data->val_tokens->outline() : "none");
  ContentsCache cache(contents_path(config.output));
  read_contents(world, *data, world.is_rank_0() ? &cache : nullptr, throw_if_stopped);
  world.together([&] {
    if (world.is_rank_0() && !start.checkpoint.empty())
      refuse_changes(start.checkpoint, config, start.state, data->fingerprint, data->val_fingerprint);
  });
  if (start.state.step >= config.train.steps) {
    if (!world.is_rank_0()) return kExitOk;
    if (lock) clean_leftovers(config.output);
    print_line(stdout, fmt::format("nothing to do: {} is at step {} of {}", start.checkpoint,
                                   start.state.step, config.train.steps));
    return kExitOk;
  }
  Trainer trainer(world, config, start, *data, device);
  world.together(throw_if_stopped);  // until here nothing has been written
  if (lock_finds_checkpoints(world, config, lock)) return std::nullopt;
  trainer.settle_products(start);
  world.together([&] {
    if (world.is_rank_0()) prepare_output(config, start, cache);
  });
  return trainer.run(start);
}

}  // namespace

int train(World& world, const TrainConfig& config) {
  install_stop_signals();
  const std::string text = to_yaml(config);
  world.require_equal("the configuration", hash_bytes(std::as_bytes(std::span<const char>(text))));
  Device device = Device::cpu;
  world.together([&] {
    check_ranks(config, world.size());
    device = resolve_device(config.device);
    select_device(device, world.local_rank());
  });
  world.require_equal("the device", to_string(device));
  make_independent_of_threads(config.deterministic);
  std::optional<RunLock> lock;
  while (true)
    if (const std::optional<int> status = train_once(world, config, device, lock)) return *status;
}

}  // namespace depthroute
