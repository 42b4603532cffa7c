#include "eval/run.h"

#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>

#include "configs/base/error.h"
#include "configs/base/regular_file.h"
#include "configs/standard_streams.h"
#include "eval/build_results.h"
#include "eval/engine.h"
#include "eval/progress.h"
#include "eval/results/output_lock.h"
#include "eval/results/results_file.h"
#include "eval/results/unit_file.h"

namespace depthroute {
namespace {

/// How long other ranks wait while rank 0 hashes files and bootstraps. While measuring, no rank waits for
/// more than the passes that share an output head.
constexpr double kRank0Seconds = 3600;

std::string to_text(const std::vector<Missing>& missing) {
  std::string text;
  for (const Missing& batch : missing)
    text += fmt::format("{} {} {} {}\n", batch.batch, static_cast<int>(batch.clean), batch.comparisons.size(),
                        fmt::join(batch.comparisons, " "));
  return text;
}

std::vector<Missing> missing_from(const std::string& text) {
  std::vector<Missing> missing;
  std::istringstream lines(text);
  for (Missing batch; lines >> batch.batch;) {
    size_t count = 0;
    lines >> batch.clean >> count;
    batch.comparisons.resize(count);
    for (int& index : batch.comparisons) lines >> index;
    missing.push_back(std::move(batch));
    batch = {};
  }
  return missing;
}

/// An evaluation on all ranks, of everything or a part: the steps around measuring.
class Run {
 public:
  /// Rank 0 locks `output`, if that needs no new folder, hashes what will be read and looks for what has been
  /// measured. A second run is thus refused before it loads a model; folders are made only after everything else
  /// has been checked.
  Run(World& world, const CommandLine& command, const EvalInput& input, const std::string& output,
      const BatchRange& batches);

  const std::vector<Missing>& missing() const { return missing_; }
  UnitStore& store() { return *store_; }
  const Provenance& provenance() const { return from_; }

  /// Loads the model. Afterwards all ranks compute with the same parameters in the same precision.
  void load();
  /// Holds the lock on the output, making its folder. Rank 0, before anything is written.
  void claim_output();
  /// Prints the model and the devices. Rank 0, when all memory has been taken.
  void announce() const;
  /// Measures what is missing, on all ranks; each writes the units it measures.
  void measure();

 private:
  void require_one_precision();

  World& world_;
  const EvalInput& input_;
  const std::string output_;
  const BatchRange batches_;
  std::optional<OutputLock> lock_;
  Provenance from_;
  std::optional<UnitStore> store_;
  std::vector<Missing> missing_;
  std::unique_ptr<Engine> engine_;
};

Run::Run(World& world, const CommandLine& command, const EvalInput& input, const std::string& output,
         const BatchRange& batches)
    : world_(world), input_(input), output_(output), batches_(batches) {
  const LongWait wait(world, kRank0Seconds);
  std::string missing;
  if (world.is_rank_0()) {
    if (exists(folder_of(output))) lock_.emplace(output);
    from_ = input.provenance(command);
    store_.emplace(input.config.output, from_.measurement_hash, input.layout());
    store_->scan();
    missing = to_text(store_->missing(batches));
  }
  from_.measurement_hash = world.broadcast(from_.measurement_hash);
  if (!store_) store_.emplace(input.config.output, from_.measurement_hash, input.layout());
  missing_ = missing_from(world.broadcast(missing));
}

void Run::load() {
  world_.require_equal("the configuration (its hash)", config_hash(input_.config));
  world_.require_equal("the program's commit", program_commit());
  world_.require_equal(input_.requests ? "data.requests" : "data.shards", input_.data_outline());
  const Device device = resolve_device(input_.config.device);
  select_device(device, world_.local_rank());
  make_independent_of_threads(true);  // one process with many threads must measure what many with few do
  engine_ = std::make_unique<Engine>(input_, device);
  engine_->load(input_);
  from_.parameters_before = engine_->parameters();
  world_.require_equal("the checksum of the parameters (model.from)", from_.parameters_before);
  require_one_precision();
}

void Run::require_one_precision() {
  const std::vector<std::string> devices = world_.gather(describe(engine_->model.device()));
  const DType type = engine_->model.final_hidden().dtype;
  from_.precision = type == DType::f32 ? "fp32" : to_string(type);  // as the configuration spells it
  from_.devices = {describe(engine_->model.device())};
  const std::vector<std::string> precisions = world_.gather(from_.precision);
  for (size_t rank = 0; rank < devices.size(); ++rank) {
    from_.add_device(devices[rank]);
    if (precisions[rank] != precisions[0])
      throw ConfigError("rank 0 computes in {} ({}), rank {} in {} ({}): set device or precision",
                        precisions[0], devices[0], rank, precisions[rank], devices[rank]);
  }
}

void Run::announce() const {
  print_text(stdout, fmt::format("Model: {}\n  {}\nDevice: {}{}\n\n", input_.model.folder.path(),
                                 input_.model.describe(), fmt::join(from_.devices, "; "),
                                 world_.size() > 1 ? fmt::format(", {} ranks", world_.size()) : ""));
  if (const std::string slow = engine_->model.attention_notes().slow; !slow.empty())
    print_text(stdout, fmt::format("warning: {}\n\n", slow));
}

void Run::claim_output() {
  if (!lock_) lock_.emplace(output_);
  store_->make_folder();
}

void Run::measure() {
  if (world_.is_rank_0() && !store_->empty()) {
    Provenance there;
    store_->add_to(there, batches_);
    if (there.precision != from_.precision && !there.precision.empty())
      throw ConfigError(
          "{} holds units measured in {}, and this run would compute in {}: set device or precision, or "
          "another output",
          store_->folder(), there.precision, from_.precision);
  }
  world_.barrier();
  engine_->calibrate(input_);
  const auto write = [&](UnitRecord&& record) {
    from_.parameters_after = engine_->parameters();
    store_->write(record, from_);
  };
  Progress progress;
  depthroute::measure(world_, engine_->evaluator, engine_->stream,
                      {*input_.sequences, batches_, input_.comparisons.list, input_.clean_options()},
                      missing_, write, [&](double done, double total) { progress.report(done, total); });
  if (!world_.is_rank_0()) return;
  store_->scan();
  if (const std::vector<Missing> left = store_->missing(batches_); !left.empty())
    throw SystemError(
        "{}: units of {} batches are missing after all ranks have written theirs: is the folder of the "
        "output shared by all machines?",
        store_->folder(), left.size());
}

/// Refuses results of another measurement, naming the first line that differs.
void check_replacement(const EvalInput& input, const Provenance& from) {
  const std::string& output = input.config.output;
  const std::optional<StoredMeasurement> there = stored_measurement(output);
  if (!there || there->hash == from.measurement_hash) return;
  throw ConfigError("{} holds the results of another measurement ({}): set another output, or give --replace",
                    output, first_difference(there->text, from.measurement));
}

/// Whether the known answers came out right on the batches of a part.
bool known_answers_pass(const EvalInput& input, const UnitStore& store, const BatchRange& batches,
                        const Provenance& from) {
  Provenance known = from;
  store.add_to(known, batches);
  const auto known_answers = make_known_answers(input.plan, input.model.recency_bias,
                                                {known.precision == "fp32", input.calibration != nullptr});
  for (int64_t i = 0; i < batches.count; ++i) {
    const UnitRecord record = store.read(batches.number(i));
    for (size_t k = 0; k < known_answers.size(); ++k)
      if (!known_answers[k].passes(
              record.outcomes[input.comparisons.of_known_answer[k]][CellColumn::largest_change].front()))
        return false;
  }
  return known.parameters_before == known.parameters_after;
}

int part_status(const CommandLine& command, const std::string& folder, bool passed) {
  if (passed) return kExitOk;
  return report_wrong_answer(
      command,
      fmt::format("in this part, or the parameters changed): the numbers in {} cannot be trusted", folder));
}

/// The parts of which something is missing.
std::vector<int64_t> incomplete_parts(const EvalInput& input, const UnitStore& store, int64_t count) {
  std::vector<int64_t> incomplete;
  for (int64_t index = 0; index < count; ++index)
    if (!store.missing(input.batches().part(index, count)).empty()) incomplete.push_back(index);
  return incomplete;
}

}  // namespace

void check_part_count(const EvalInput& input, int64_t count) {
  const BatchRange all = input.batches();
  if (count > all.count)
    throw ConfigError(
        "{} parts are too many: {} sequences in batches of {} (micro_batch) make {} parts at most", count,
        all.sequences, input.micro_batch(), all.count);
}

int measure_whole(World& world, const CommandLine& command, const EvalInput& input, bool replace) {
  Run run(world, command, input, input.config.output, input.batches());
  if (world.is_rank_0() && !replace) check_replacement(input, run.provenance());
  world.barrier();
  if (!run.missing().empty()) run.load();
  std::optional<ResultsBuilder> builder;
  if (world.is_rank_0()) {
    run.claim_output();
    builder.emplace(input);
    if (run.missing().empty()) {
      print_text(stdout, fmt::format("Everything has been measured already: {}\n\n", run.store().folder()));
    } else {
      run.announce();
    }
  }
  world.barrier();  // the folder is there
  if (!run.missing().empty()) run.measure();
  const LongWait wait(world, kRank0Seconds);
  int status = kExitOk;
  if (builder) {
    status = builder->finish(command, run.store(), run.provenance().without_units());
    run.store().remove_leftovers();
  }
  return narrow<int>(world.broadcast(status));
}

int measure_part(World& world, const CommandLine& command, const EvalInput& input, const PartNumber& number) {
  const BatchRange batches = input.batches().part(number.index, number.count);
  Run run(world, command, input, part_place(input.config.output, number), batches);
  const bool nothing_to_do = run.missing().empty();
  if (!nothing_to_do) run.load();
  if (world.is_rank_0() && !nothing_to_do) {
    run.claim_output();
    run.announce();
  }
  world.barrier();
  if (!nothing_to_do) run.measure();
  int status = kExitOk;
  if (world.is_rank_0()) {
    print_text(stdout, fmt::format("{}: {}part {} of {}, sequences {} to {}\n", run.store().folder(),
                                   nothing_to_do ? "nothing to do, everything is there of " : "",
                                   number.index, number.count, batches.span().first,
                                   batches.span().first + batches.span().size - 1));
    status = part_status(command, run.store().folder(),
                         known_answers_pass(input, run.store(), batches, Provenance{}));
  }
  return narrow<int>(world.broadcast(status));
}

int merge_parts(const CommandLine& command, const EvalInput& input, int64_t count, bool replace) {
  const Provenance from = input.provenance(command);
  if (!replace) check_replacement(input, from);
  UnitStore store(input.config.output, from.measurement_hash, input.layout());
  store.scan(UnitStore::Damaged::refuse);
  if (const std::vector<int64_t> missing = incomplete_parts(input, store, count); !missing.empty())
    throw DataError("{}: {} of {} parts are missing or incomplete: {}; measure each with --part K/{}",
                    store.folder(), missing.size(), count, fmt::join(missing, ", "), count);
  if (command.dry_run) {
    Provenance all = from;
    store.add_to(all, input.batches());
    print_text(stdout, fmt::format("All {} parts in {} are there\n", count, store.folder()));
    return kExitOk;
  }
  const OutputLock lock(input.config.output);
  ResultsBuilder builder(input);
  const int status = builder.finish(command, store, from);
  store.remove_leftovers();
  print_text(stdout, fmt::format("Merged {} parts; {} is no longer needed\n", count,
                                 units_folder(input.config.output)));
  return status;
}

}  // namespace depthroute
