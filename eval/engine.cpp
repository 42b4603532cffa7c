#include "eval/engine.h"

#include "train/model/weights.h"

namespace depthroute {

namespace {

/// Batches may share the sequences equally, the calibration's last one has what is left.
std::vector<int64_t> smaller_batches(const EvalInput& input) {
  const int64_t most = input.micro_batch(), batches = div_ceil(input.sequences->size(), most);
  std::vector<int64_t> sizes = {input.sequences->size() / batches};
  if (input.sequences->size() % batches > 0) sizes.push_back(sizes[0] + 1);
  if (input.calibration) sizes.push_back(input.calibration->size() % most);
  std::erase_if(sizes, [most](int64_t size) { return size == 0 || size == most; });
  return sizes;
}

}  // namespace

Engine::Engine(const EvalInput& input, Device device)
    : arena(device),
      model(input.model.config,
            {.micro_batch = input.micro_batch(),
             .seq_len = input.sequences->seq_len(),
             .training = input.config.routing.edge_estimates,
             .activations = working_type(device, input.config.precision),
             .recompute = input.config.routing.edge_estimates ? Recompute::layer : Recompute::none,
             .logit_gradients = input.config.routing.edge_estimates,
             .interventions = true,
             .smaller_batches = smaller_batches(input)},
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
  reserve_device(stream);
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
