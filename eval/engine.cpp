#include "eval/engine.h"

#include "train/model/weights.h"

namespace depthroute {

Engine::Engine(const EvalInput& input, Device device)
    : arena(device),
      model(input.model.config,
            {.micro_batch = input.micro_batch(),
             .seq_len = input.config.data.seq_len,
             .training = input.config.routing.edge_estimates,
             .activations = working_type(device, input.config.precision),
             .recompute = input.config.routing.edge_estimates ? Recompute::layer : Recompute::none,
             .logit_gradients = input.config.routing.edge_estimates,
             .interventions = true},
            arena),
      evaluator(model, input.needs(), input.config.resample, arena) {}

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

void Engine::calibrate(const EvalInput& input) {
  if (input.calibration) evaluator.calibrate(stream, *input.calibration);
}

std::string Engine::parameters() const {
  return parameters_checksum(stream, model.layout(), model.parameters());
}

}  // namespace depthroute
