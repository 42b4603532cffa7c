// depthroute-eval: reads a checkpoint, tokens and cells, and writes one results file and a table. Runs as one
// rank, as several (mpirun, srun), or as tasks that measure a part each and a last one that merges them.
#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "eval/dry_run.h"
#include "eval/engine.h"
#include "eval/input.h"
#include "eval/results/results_file.h"
#include "eval/results/unit_store.h"
#include "eval/run.h"
#include "kernels/collectives/world.h"

namespace depthroute {
namespace {

const std::vector<ProgramOption> kOptions = {
    {"--part", "K/N",
     "measure part K of N only, K = 0 ... N-1 (a task of a job array: $SLURM_ARRAY_TASK_ID/N)"},
    {"--merge", "N", "make the results of the N parts; no model is run"},
    {"--replace", "", "write over results of another measurement"},
};

/// Reads a part such as "3/16". ConfigError otherwise.
PartNumber read_part(const std::string& text) {
  PartNumber number;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, number.index);
  const bool slash = first.ec == std::errc{} && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, number.count) : first;
  if (!slash || second.ec != std::errc{} || second.ptr != end || number.index < 0 ||
      number.index >= number.count)
    throw ConfigError("--part: '{}' is not K/N with K = 0 ... N-1, as in 0/4", text);
  return number;
}

struct Request {
  EvalConfig config;
  std::optional<PartNumber> part;
  std::optional<int64_t> merge;
  bool replace = false;
};

Request read_request(const CommandLine& command) {
  Request request;
  request.config = read_eval_config(command.config_path, command.overrides);
  if (command.options.contains("--part")) request.part = read_part(command.options.at("--part"));
  request.replace = command.options.contains("--replace");
  if (command.options.contains("--merge")) request.merge = option_number(command, "--merge", 1);
  if (request.part && request.merge) throw ConfigError("--part and --merge exclude each other");
  return request;
}

void print_dry_run(const EvalInput& input, const std::optional<PartNumber>& part) {
  const Engine engine(input, resolve_device(input.config.device, Use::planning));
  engine.check(input);
  print_result(dry_run_report(input, engine.arena));
  if (!part) return;
  const SequenceRange range = input.batches().part(part->index, part->count).span();
  print_result(fmt::format("\nPart {} of {}: sequences {} to {} of {}\n", part->index, part->count,
                           range.first, range.first + range.size - 1, input.sequences->size()));
}

/// Checks what concerns the output, before a model is opened.
void check_output(const Request& request, int ranks) {
  if (request.merge && ranks > 1) throw ConfigError("--merge takes a single rank");
  check_output_path(request.config.output);
  if (request.part) check_output_place(part_place(request.config.output, *request.part));
}

/// Opens the input on every rank. Rank 0 resolves model.from, so that all read one model even if a link
/// changes meanwhile.
EvalInput open_input(World& world, const Request& request) {
  std::optional<EvalInput> input;
  if (world.is_rank_0()) input.emplace(request.config);
  const std::string folder = world.broadcast(input ? input->model.folder.path() : "");
  return input ? *std::move(input) : EvalInput(request.config, folder);
}

int run(const CommandLine& command, World& world) {
  const Request request = read_request(command);
  if (command.print_config) {
    if (world.is_rank_0()) print_result(to_yaml(request.config));
    return kExitOk;
  }
  check_output(request, world.size());
  const EvalInput input = open_input(world, request);
  if (request.part) check_part_count(input, request.part->count);
  if (request.merge) check_part_count(input, *request.merge);
  if (request.merge) return merge_parts(command, input, *request.merge, request.replace);
  if (command.dry_run) {
    if (world.is_rank_0()) print_dry_run(input, request.part);
    return kExitOk;
  }
  return request.part ? measure_part(world, command, input, *request.part)
                      : measure_whole(world, command, input, request.replace);
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  const auto body = [argv](const depthroute::CommandLine& line) {
    depthroute::prepare_process(argv);  // may restart the program with better settings
    return depthroute::run_in_world([&](depthroute::World& world) { return depthroute::run(line, world); });
  };
  return depthroute::run_program(argc, argv,
                                 "Measures what the routing of a checkpoint does, and what changing it does.",
                                 depthroute::eval_reference(), depthroute::kOptions, body);
}
