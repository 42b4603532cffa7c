// depthroute-compare-runs: one figure for how far two runs are apart, for scripts. Prints
//   FIGURE <tab> BOUND <tab> WHERE
// and exits with 0 within the bound, 1 beyond it, 2 if the files cannot be compared.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>

#include "configs/base/error.h"
#include "tests/gpu/compare.h"

int main(int argc, char** argv) try {
  using namespace depthroute;
  std::string a, b;
  double bound = 0;
  int64_t steps = 0;
  bool tokens = false;
  CLI::App app("How far two runs are apart");
  app.require_subcommand(1);
  const auto command = [&](const char* name, const char* help) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->add_option("a", a)->required();
    sub->add_option("b", b, "the one to be measured against")->required();
    sub->add_option("--bound", bound, "largest distance that passes")->required();
    return sub;
  };
  CLI::App* losses = command("losses", "largest difference of a step's loss in two metrics.jsonl, nats");
  losses->add_option("--until", steps, "steps after this one do not count; 0: all do");
  CLI::App* means = command("mean-losses", "difference of the mean loss in two metrics.jsonl, nats");
  means->add_option("--last", steps, "over this many steps")->required();
  CLI::App* results = command("results", "largest relative difference in two results files");
  results->add_flag("--tokens", tokens, "the clean NLL of every token counts as well");
  CLI11_PARSE(app, argc, argv);

  const Distance distance = losses->parsed()    ? compare_losses(a, b, steps)
                            : means->parsed()   ? compare_mean_losses(a, b, steps)
                            : results->parsed() ? compare_results(a, b, tokens)
                                                : Distance{};
  fmt::print("{:.3g}\t{:g}\t{}\n", distance.figure, bound, distance.where);
  return distance.within(bound) ? kExitOk : kExitFailure;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-compare-runs: {}\n", error.what());
  return depthroute::kExitBadInput;
}
