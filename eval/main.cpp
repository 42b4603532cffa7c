// depthroute-eval: a checkpoint, tokens and cells in; one results file and a table out. In one process, in
// several (mpirun, srun), or as tasks that measure a part each and a last one that merges them.
#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "configs/base/error.h"
#include "configs/cli.h"
#include "configs/read.h"
#include "configs/standard_streams.h"
#include "eval/results/report.h"
#include "eval/run.h"
#include "kernels/collectives/world.h"

namespace depthroute {
namespace {

const std::vector<ProgramOption> kOptions = {
    {"--part", "K/N",
     "measure part K of N only, K = 0 ... N-1 (a task of a job array: $SLURM_ARRAY_TASK_ID/N)"},
    {"--merge", "N", "make the results of the N parts; no model is run"},
};

/// "3/16". ConfigError otherwise.
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
};

Request read_request(const CommandLine& command) {
  Request request;
  request.config = read_eval_config(command.config_path, command.overrides);
  if (command.options.contains("--part")) request.part = read_part(command.options.at("--part"));
  if (command.options.contains("--merge")) request.merge = option_number(command, "--merge", 1);
  if (request.part && request.merge) throw ConfigError("--part and --merge exclude each other");
  return request;
}

void print_dry_run(const Job& job, const Request& request) {
  const Engine engine(job, resolve_device(job.config.device, Use::planning));
  engine.check(job);
  print_result(dry_run_report(job.source, job.config, job.cells, job.known_answers, job.plan, engine.arena));
  if (!request.part) return;
  const SequenceRange part = job.batches().part(request.part->index, request.part->count).span();
  print_result(fmt::format("\nPart {} of {}: sequences {} to {} of {}\n", request.part->index,
                           request.part->count, part.first, part.first + part.size - 1,
                           job.config.data.sequences));
}

int run(const CommandLine& command, World& world) {
  Request request;
  world.together([&] { request = read_request(command); });
  if (command.print_config) {
    if (world.is_rank_0()) print_result(to_yaml(request.config));
    return kExitOk;
  }
  std::optional<Job> job;
  world.together([&] {
    if (request.merge && world.size() > 1) throw ConfigError("--merge is for one process");
    check_output_path(request.config.output);
    if (request.part) check_output_place(part_path(request.config.output, *request.part));
    if (world.is_rank_0()) job.emplace(request.config);
  });
  // All processes must work on one model, whatever a link in model.from comes to name meanwhile.
  const std::string model = world.broadcast(job ? job->source.folder.path() : "");
  world.together([&] {
    if (!job) job.emplace(request.config, model);
    if (request.part) check_part_count(*job, request.part->count);
    if (request.merge) check_part_count(*job, *request.merge);
  });
  if (request.merge) return merge_parts(command, *job, *request.merge, command.dry_run);
  if (command.dry_run) {
    world.together([&] {
      if (world.is_rank_0()) print_dry_run(*job, request);
    });
    return kExitOk;
  }
  return request.part ? measure_part(world, command, *job, *request.part)
                      : measure_whole(world, command, *job);
}

}  // namespace
}  // namespace depthroute

int main(int argc, char** argv) {
  const auto body = [argv](const depthroute::CommandLine& line) {
    depthroute::prepare_process(argv);  // may start the program again, with better settings
    return depthroute::run_in_world([&](depthroute::World& world) { return depthroute::run(line, world); });
  };
  return depthroute::run_program(argc, argv,
                                 "Measures what the routing of a checkpoint does, and what changing it does.",
                                 depthroute::eval_reference(), depthroute::kOptions, body);
}
