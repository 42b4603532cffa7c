#include "eval/engine.h"

#include "train/model/weights.h"

namespace depthroute {
namespace {

ContentNeeds content_needs(const EvalInput& input) {
  ContentNeeds needs;
  for (const Comparison& comparison : input.comparisons()) needs.add(input.plan, comparison.site_changes);
  return needs;
}

}  // namespace

Engine::Engine(const EvalInput& input, Device device)
    : arena(device),
      model(input.model.config,
            {.micro_batch = input.micro_batch(),
             .seq_len = input.config.data.seq_len,
             .activations = working_type(device, input.config.precision),
             .interventions = true},
            arena),
      evaluator(model, arena, content_needs(input), input.config.resample) {}

void Engine::check(const EvalInput& input) const {
  if (input.model.wrapped()) {
    check_wrapped_parameters(input.model.folder, model.layout());
  } else {
    check_parameters(input.model.folder, model.layout());
  }
}

void Engine::load(const EvalInput& input) {
  stream = make_stream(arena.device());
  arena.allocate();
  load_eval_model(stream, input.model, model);
}

std::string Engine::parameters() const {
  return parameters_checksum(stream, model.layout(), model.parameters());
}

}  // namespace depthroute
