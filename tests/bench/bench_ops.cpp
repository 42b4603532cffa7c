// depthroute-bench-ops: every op at a model's shapes, as a share of the machine's own speed. cpu: a 100M
// model (D 512, 8 heads, 4 kv heads, K 64, F 1536, V 151936, 4 sequences of 512 tokens), float32; cuda: 0.6B
// (D 1024, 16 heads, 8 kv heads, K 128, F 3072, V 151936, 8 sequences of 2048 tokens), bf16 or float32. The
// routing also at D 1024, n = 2 ... 9.
//
// Compute-bound ops count floating-point operations, the others bytes: each array once per read and once per
// write, "+=" is both, without write-allocate traffic, as in the stream they are compared with. The formula
// is next to each op; e is the size of an activation. Inputs rotate through enough copies to leave the caches
// between two calls. cuda: host time of the median of nine samples of many calls.
//
// An op that fails is reported, and the rest goes on; the exit status is then 1.
//
//   depthroute-bench-ops [--device cpu|cuda] [--precision bf16|fp32] [--json FILE] [--describe | --ceilings]
//                        [--benchmark_filter=routing] [--benchmark_out=ops.json ...]
#include "tests/bench/bench_ops.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/base/error.h"
#include "kernels/gemm_choices.h"

namespace depthroute::bench {

using ops::Transpose;

Run run;

void add(const std::string& name, Unit unit, double amount, const std::function<Call()>& make) {
  constexpr double kRotation = 256.0 * (1 << 20);  // bytes between two uses of the same copy
  auto* benchmark = benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
    const double copies = unit == Unit::flops ? 1.0 : kRotation / amount;
    try {
      std::vector<Call> calls(static_cast<size_t>(std::clamp(copies, 1.0, 64.0)));
      for (Call& call : calls) {
        call = make();
        call();
      }
      // Products by the algorithms that a training run would choose.
      if (unit == Unit::flops && has_gemm_choices(run.target.device))
        for (const std::string& line : report(tune_gemm(stream(), calls[0])))
          fmt::print("choice: {}\n", line);
      size_t next = 0;
      const auto call = [&] {
        calls[next]();
        next = (next + 1) % calls.size();
      };
      for (auto _ : state) {
        if (run.target.cuda())
          state.SetIterationTime(median_seconds(stream(), call));
        else
          call();
      }
    } catch (const std::exception& error) {  // too little memory, or a shape that a library refuses
      state.SkipWithError(error.what());
      return;
    }
    const double rate = amount * static_cast<double>(state.iterations());
    const auto per_second = benchmark::Counter::kIsRate;
    if (unit == Unit::flops) {
      state.counters["GFLOP/s"] = benchmark::Counter(rate * 1e-9, per_second);
      state.counters["%gemm"] = benchmark::Counter(rate * 1e-7 / run.machine.gflops, per_second);
    } else {
      state.counters["GB/s"] = benchmark::Counter(rate * 1e-9, per_second);
      state.counters["%" + run.machine.stream] =
          benchmark::Counter(rate * 1e-7 / run.machine.gigabytes, per_second);
    }
  });
  benchmark->Unit(benchmark::kMillisecond);
  if (run.target.cuda())
    benchmark->UseManualTime()->Iterations(1);
  else
    benchmark->UseRealTime()->MinTime(0.3);
}

namespace {

void choose_sizes() {
  const bool cuda = run.target.cuda();
  run.e = static_cast<double>(size_of(run.target.act));
  run.attention = run.tiny ? ops::AttentionShape{2, 16, 2, 1, 32}
                  : cuda   ? ops::AttentionShape{8, 2048, 16, 8, 128}
                           : ops::AttentionShape{4, 512, 8, 4, 64};
  run.rows = run.attention.tokens();
  run.hidden = run.tiny ? 64 : cuda ? 1024 : 512;
  run.intermediate = 3 * run.hidden;
  run.vocab = run.tiny ? 257 : 151936;
  run.head_rows = std::min(run.rows, int64_t{4096});
}

void add_memory() {
  const int64_t size = int64_t{1} << (run.tiny ? 14 : run.target.cuda() ? 27 : 24);
  const double elements = static_cast<double>(size);
  add("zero", Unit::bytes, 4 * elements, [=] { return [x = f32({size})] { ops::zero(stream(), x); }; });
  add("copy", Unit::bytes, 8 * elements,
      [=] { return [x = f32({size}), y = f32({size})] { ops::copy(stream(), x, y); }; });
  add("add", Unit::bytes, 3 * run.e * elements,
      [=] { return [x = act({size}), y = act({size})] { ops::add(stream(), x, y); }; });
  add("sum", Unit::bytes, 4 * elements,
      [=] { return [x = f32({size}), total = f64()] { ops::sum(stream(), x, total); }; });
  // About half of the rows: read and written.
  const int64_t columns = 1024, rows = size / columns;
  add("select_rows", Unit::bytes, run.e * elements, [=] {
    return [mask = indices(rows, 2), x = act({rows, columns}), y = act({rows, columns})] {
      ops::select_rows(stream(), mask, x, y);
    };
  });
  for (const int64_t width : {int64_t{9}, columns, size / 8})
    add(fmt::format("column_sums/C:{}", width), Unit::bytes, run.e * elements, [=] {
      return [x = act({size / width, width}), sums = f64(width),
              scratch = workspace(ops::column_sums_workspace(run.target.device, width))] {
        ops::column_sums(stream(), x, {}, sums, scratch);
      };
    });
  add("sum_of_squares", Unit::bytes, 4 * elements, [=] {
    return [x = f32({size}), total = f64(),
            scratch = workspace(ops::sum_of_squares_workspace(run.target.device))] {
      ops::sum_of_squares(stream(), x, total, scratch);
    };
  });
  // Reads gradient, parameter, m, v; writes the last three, and the parameter again, rounded to bf16.
  const bool rounded = run.target.act == DType::bf16;
  add("adamw", Unit::bytes, (rounded ? 30 : 28) * elements, [=] {
    const OwnedTensor v = f32({size});
    ops::fill(stream(), v, 0.01f);
    return [grad = f32({size}), param = f32({size}), m = f32({size}), v, norm = f32({1}), loss = f64(),
            compute = rounded ? act({size}) : OwnedTensor{}] {
      const ops::AdamwStep step{.lr = 1e-4f,
                                .beta1 = 0.9f,
                                .beta2 = 0.95f,
                                .eps = 1e-8f,
                                .weight_decay = 0.1f,
                                .max_norm = 1.0f,
                                .step = 10};
      ops::adamw(stream(), step, norm, loss, grad, param, m, v, compute);
    };
  });
}

// 2 m n k. A product that adds to its result (beta = 1) is a parameter's gradient, in float32.
enum class Result { written, added_to };
void add_gemm(const std::string& name, Transpose op_a, Transpose op_b, int64_t m, int64_t n, int64_t k,
              Result result) {
  const bool gradient = result == Result::added_to;
  add("gemm/" + name, Unit::flops, 2 * times({m, n, k}), [=] {
    return [=, a = act(op_a == Transpose::no ? Shape{m, k} : Shape{k, m}),
            b = act(op_b == Transpose::no ? Shape{k, n} : Shape{n, k}),
            c = gradient ? f32({m, n}) : act({m, n})] {
      ops::gemm(stream(), op_a, op_b, a, b, gradient ? 1.0f : 0.0f, c);
    };
  });
}

/// The three products of y = x W^T, x [rows, in], W [out, in], as a training step computes them.
void add_linear(const std::string& name, const std::string& dx_name, const std::string& dweight_name,
                int64_t rows, int64_t in, int64_t out) {
  add_gemm(name, Transpose::no, Transpose::yes, rows, out, in, Result::written);
  add_gemm(dx_name, Transpose::no, Transpose::no, rows, in, out, Result::written);
  add_gemm(dweight_name, Transpose::yes, Transpose::no, out, in, rows, Result::added_to);
}

void add_products() {
  const int64_t n = run.rows, d = run.hidden, f = run.intermediate;
  add_linear("qkv", "qkv/dx", "qkv/dweight", n, d, run.attention.qkv_cols());
  add_linear("o", "o/dx", "o/dweight", n, run.attention.q_cols(), d);
  add_linear("gate_up", "gate_up/dx", "gate_up/dweight", n, d, 2 * f);
  add_linear("down", "down/dx", "down/dweight", n, f, d);
  add_linear("head/logits", "head/dhidden", "head/dhead", run.head_rows, d, run.vocab);
}

/// What is least known comes first, in case the time runs out.
void add_all() {
  add_routing(run.hidden);
  if (run.hidden != 1024 && !run.tiny) add_routing(1024);
  add_products();
  add_attention();
  add_cross_entropy(run.vocab);
  if (!run.tiny) add_cross_entropy(8192);
  add_norms();
  add_embedding();
  add_memory();
}

/// `error_occurred` up to Google Benchmark 1.7; `skipped`
/// (an enumeration whose first value is "not") since 1.8.
template <typename Run>
bool failed(const Run& run) {
  if constexpr (requires { run.error_occurred; }) {
    return run.error_occurred;
  } else {
    return run.skipped != decltype(run.skipped){};
  }
}

template <typename Run>
std::string message(const Run& run) {
  if constexpr (requires { run.error_message; }) {
    return run.error_message;
  } else {
    return run.skip_message;
  }
}

/// Prints the table on the console, and one JSON object per line for records.
class Reporter : public benchmark::ConsoleReporter {
 public:
  explicit Reporter(std::ofstream* json)
      : ConsoleReporter(isatty(STDOUT_FILENO) == 1 ? OO_Defaults : OO_Tabular), json_(json) {}
  void ReportRuns(const std::vector<benchmark::BenchmarkReporter::Run>& reports) override {
    ConsoleReporter::ReportRuns(reports);
    for (const auto& report : reports) {
      failures_ += failed(report) ? 1 : 0;
      if (!json_->is_open()) continue;
      nlohmann::ordered_json line = {{"name", report.run_name.function_name},
                                     {"device", to_string(run.target.device)},
                                     {"precision", to_string(run.target.act)}};
      if (failed(report)) {
        line["error"] = message(report);
      } else {
        line["ms"] = report.GetAdjustedRealTime();
        for (const auto& [counter, value] : report.counters) line[counter] = value.value;
      }
      *json_ << line.dump() << std::endl;
    }
  }
  int failures() const { return failures_; }

 private:
  std::ofstream* json_;
  int failures_ = 0;
};

int main(int argc, char** argv) {
  std::string device = "cpu", precision = "bf16", json_path;
  bool describe_only = false, ceilings_only = false;
  CLI::App app("Every op at a model's shapes; options of Google Benchmark (--benchmark_filter=...) as well");
  app.allow_extras();
  app.add_option("--device", device, "cpu, cuda or auto");
  app.add_option("--precision", precision, "cuda: bf16 or fp32");
  app.add_option("--json", json_path, "file for one JSON object a line");
  app.add_flag("--describe", describe_only, "print the device and stop");
  app.add_flag("--ceilings", ceilings_only, "measure what the machine can do, GEMM and memory, and stop");
  app.add_flag("--tiny", run.tiny, "small shapes, to try the program; the figures mean nothing");
  CLI11_PARSE(app, argc, argv);
  std::vector<std::string> rest = app.remaining();
  std::vector<char*> arguments = {argv[0]};
  for (std::string& argument : rest) arguments.push_back(argument.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return kExitBadInput;

  run.target = make_target(device, precision);
  if (describe_only) {
    fmt::print("{}\n", describe(run.target.device));
    return kExitOk;
  }
  std::ofstream json;
  if (!json_path.empty()) json.open(json_path, std::ios::app);
  if (!json_path.empty() && !json) throw InputError("{}: cannot be written", json_path);
  choose_sizes();
  run.machine = measure_machine(run.target, run.tiny);
  fmt::print("{}; {} {:.1f} GFLOP/s, {} {:.1f} GB/s\n", describe(run.target.device), run.machine.gemm,
             run.machine.gflops, run.machine.stream, run.machine.gigabytes);
  std::fflush(stdout);
  benchmark::AddCustomContext("gemm_gflops", fmt::format("{:.1f}", run.machine.gflops));
  benchmark::AddCustomContext("stream_gigabytes", fmt::format("{:.1f}", run.machine.gigabytes));
  if (json.is_open())
    json << nlohmann::ordered_json{{"name", "machine"},
                                   {"device", to_string(run.target.device)},
                                   {"gemm", run.machine.gemm},
                                   {"GFLOP/s", run.machine.gflops},
                                   {"stream", run.machine.stream},
                                   {"GB/s", run.machine.gigabytes}}
         << std::endl;
  if (ceilings_only) return kExitOk;
  add_all();
  Reporter reporter(&json);
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return reporter.failures() == 0 ? kExitOk : kExitFailure;
}

}  // namespace
}  // namespace depthroute::bench

int main(int argc, char** argv) try {
  depthroute::prepare_process(argv);
  return depthroute::bench::main(argc, argv);
} catch (const depthroute::InputError& error) {
  fmt::print(stderr, "depthroute-bench-ops: {}\n", error.what());
  return depthroute::kExitBadInput;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-bench-ops: {}\n", error.what());
  return depthroute::kExitFailure;
}
