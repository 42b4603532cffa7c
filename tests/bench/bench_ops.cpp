// depthroute-bench-ops: every op at the shapes of a 100M model (D 512, 8 heads, 4 kv heads, K 64, F 1536, V
// 151936, 4 sequences of 512 tokens) and the routing at those of 0.6B (D 1024, n = 2 ... 9).
//
// Compute-bound ops count floating-point operations, the others bytes. Bytes: each array once per read and
// once per write, "+=" is both, no write-allocate traffic, as in the triad they are compared with. The
// formula stands beside each op. Inputs rotate through enough copies to fall out of the caches between two
// calls.
//
//   depthroute-bench-ops [--benchmark_filter=routing] [--benchmark_out=ops.json ...]
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "tests/bench/bench_machine.h"

namespace depthroute::bench {
namespace {

using ops::Op;
using Call = std::function<void()>;

constexpr Stream kCpu{};
constexpr int64_t kB = 4, kT = 512, kN = kB * kT, kD = 512, kF = 1536, kV = 151936, kH = 8, kG = 4, kK = 64;
constexpr ops::AttentionShape kAttention{kB, kT, kH, kG, kK};
constexpr double kRotation = 256.0 * (1 << 20);  // bytes between two uses of the same copy

enum class Unit { flops, bytes };

Machine machine;

/// `make` allocates one copy of the operands and returns the call on them.
void add(const std::string& name, Unit unit, double amount, const std::function<Call()>& make) {
  benchmark::RegisterBenchmark(
      name.c_str(),
      [=](benchmark::State& state) {
        const double copies = unit == Unit::flops ? 1.0 : kRotation / amount;
        std::vector<Call> calls(static_cast<size_t>(std::clamp(copies, 1.0, 64.0)));
        for (Call& call : calls) {
          call = make();
          call();
        }
        size_t next = 0;
        for (auto _ : state) {
          calls[next]();
          next = (next + 1) % calls.size();
        }
        const double rate = amount * static_cast<double>(state.iterations());
        const auto per_second = benchmark::Counter::kIsRate;
        if (unit == Unit::flops) {
          state.counters["GFLOP/s"] = benchmark::Counter(rate * 1e-9, per_second);
          state.counters["%sgemm"] = benchmark::Counter(rate * 1e-7 / machine.gflops, per_second);
        } else {
          state.counters["GB/s"] = benchmark::Counter(rate * 1e-9, per_second);
          state.counters["%triad"] = benchmark::Counter(rate * 1e-7 / machine.gigabytes, per_second);
        }
      })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->MinTime(0.3);
}

void add_memory() {
  constexpr int64_t kSize = int64_t{1} << 24;
  add("zero", Unit::bytes, 4.0 * kSize, [] { return [x = make_tensor({kSize})] { ops::zero(kCpu, x); }; });
  add("copy", Unit::bytes, 8.0 * kSize,
      [] { return [x = make_tensor({kSize}), y = make_tensor({kSize})] { ops::copy(kCpu, x, y); }; });
  add("add", Unit::bytes, 12.0 * kSize,
      [] { return [x = make_tensor({kSize}), y = make_tensor({kSize})] { ops::add(kCpu, x, y); }; });
  add("sum", Unit::bytes, 4.0 * kSize, [] {
    return [x = make_tensor({kSize}), total = std::make_shared<double>(0)] {
      ops::sum(kCpu, x, host_tensor(total.get(), {1}));
    };
  });
  add("global_norm", Unit::bytes, 4.0 * kSize, [] {
    return [x = make_tensor({kSize}), norm = make_tensor({1})] { ops::global_norm(kCpu, x, norm); };
  });
  // Reads gradient, parameter, m, v; writes the last three.
  add("adamw", Unit::bytes, 28.0 * kSize, [] {
    const OwnedTensor v = make_tensor({kSize});
    ops::fill(kCpu, v, 0.01f);
    return [grad = make_tensor({kSize}), param = make_tensor({kSize}), m = make_tensor({kSize}), v,
            norm = make_tensor({1})] {
      const ops::AdamwStep step{.lr = 1e-4f,
                                .beta1 = 0.9f,
                                .beta2 = 0.95f,
                                .eps = 1e-8f,
                                .weight_decay = 0.1f,
                                .max_norm = 1.0f,
                                .step = 10};
      ops::adamw(kCpu, step, norm, grad, param, m, v);
    };
  });
}

// 2 m n k.
void add_gemm(const std::string& name, Op op_a, Op op_b, int64_t m, int64_t n, int64_t k) {
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  add("gemm/" + name, Unit::flops, flops, [=] {
    return [=, a = make_tensor(op_a == Op::none ? Shape{m, k} : Shape{k, m}),
            b = make_tensor(op_b == Op::none ? Shape{k, n} : Shape{n, k}),
            c = make_tensor({m, n})] { ops::gemm(kCpu, op_a, op_b, a, b, 0.0f, c); };
  });
}

void add_embedding() {
  add("embedding_forward", Unit::bytes, 8.0 * kN * kD, [] {  // row of the table -> out
    return [tokens = make_indices(kN, kV), table = make_tensor({kV, kD}), out = make_tensor({kN, kD})] {
      ops::embedding_forward(kCpu, tokens, table, out);
    };
  });
  add("embedding_backward", Unit::bytes, 12.0 * kN * kD, [] {  // dout, dtable twice
    return [tokens = make_indices(kN, kV), dout = make_tensor({kN, kD}), dtable = make_tensor({kV, kD})] {
      ops::embedding_backward(kCpu, tokens, dout, dtable);
    };
  });
}

void add_norms() {
  add("rms_norm_forward", Unit::bytes, 8.0 * kN * kD, [] {  // x, y
    return [x = make_tensor({kN, kD}), weight = make_tensor({kD}), y = make_tensor({kN, kD}),
            rstd = make_tensor({kN})] { ops::rms_norm_forward(kCpu, x, weight, 1e-6f, y, rstd); };
  });
  add("rms_norm_backward", Unit::bytes, 16.0 * kN * kD, [] {  // dy, x, dx twice
    return [dy = make_tensor({kN, kD}), x = make_tensor({kN, kD}), weight = make_tensor({kD}),
            rstd = make_tensor({kN}), dx = make_tensor({kN, kD}), dweight = make_tensor({kD}),
            scratch = make_tensor({ops::reduction_workspace(kD)})] {
      ops::rms_norm_backward(kCpu, dy, x, weight, rstd, dx, dweight, scratch);
    };
  });
  add("qk_norm_rope_forward", Unit::bytes, 8.0 * kN * (kH + kG) * kK, [] {  // q and k of qkv, q and k
    return [qkv = make_tensor({kN, kAttention.qkv_cols()}), q_weight = make_tensor({kK}),
            k_weight = make_tensor({kK}), rope = make_tensor({kT, kK}), q = make_tensor({kN, kH * kK}),
            k = make_tensor({kN, kG * kK})] {
      ops::qk_norm_rope_forward(kCpu, kAttention, qkv, q_weight, k_weight, 1e-6f, rope, q, k);
    };
  });
  add("qk_norm_rope_backward", Unit::bytes, 12.0 * kN * (kH + kG) * kK, [] {  // dq and dk, qkv, dqkv
    return [dq = make_tensor({kN, kH * kK}), dk = make_tensor({kN, kG * kK}),
            qkv = make_tensor({kN, kAttention.qkv_cols()}), dqkv = make_tensor({kN, kAttention.qkv_cols()}),
            q_weight = make_tensor({kK}), k_weight = make_tensor({kK}), rope = make_tensor({kT, kK}),
            dq_weight = make_tensor({kK}), dk_weight = make_tensor({kK}),
            scratch = make_tensor({ops::reduction_workspace(2 * kK)})] {
      ops::qk_norm_rope_backward(kCpu, kAttention, dq, dk, qkv, q_weight, k_weight, 1e-6f, rope, dqkv,
                                 dq_weight, dk_weight, scratch);
    };
  });
  add("swiglu_forward", Unit::bytes, 12.0 * kN * kF, [] {  // gate, up, act
    return [gate_up = make_tensor({kN, 2 * kF}, 3.0), act = make_tensor({kN, kF})] {
      ops::swiglu_forward(kCpu, gate_up, act);
    };
  });
  add("swiglu_backward", Unit::bytes, 24.0 * kN * kF, [] {  // dact, gate, up, their gradients, act
    return [dact = make_tensor({kN, kF}), gate_up = make_tensor({kN, 2 * kF}, 3.0),
            dgate_up = make_tensor({kN, 2 * kF}),
            act = make_tensor({kN, kF})] { ops::swiglu_backward(kCpu, dact, gate_up, dgate_up, act); };
  });
}

// A causal product of T x T scores has half of them: 2 B H T^2 K operations forward (two products), 2.5 times
// as many backward (five).
void add_attention() {
  constexpr double kForward = 2.0 * kB * kH * kT * kT * kK;
  add("attention_forward", Unit::flops, kForward, [] {
    return [q = make_tensor({kN, kH * kK}), k = make_tensor({kN, kG * kK}), v = make_tensor({kN, kG * kK}),
            out = make_tensor({kN, kH * kK}), lse = make_tensor({kB, kH, kT}),
            scratch = make_tensor({std::max<int64_t>(1, ops::attention_workspace(kAttention))})] {
      ops::attention_forward(kCpu, kAttention, q, k, v, out, lse, scratch);
    };
  });
  add("attention_backward", Unit::flops, 2.5 * kForward, [] {
    const OwnedTensor q = make_tensor({kN, kH * kK}), k = make_tensor({kN, kG * kK}),
                      v = make_tensor({kN, kG * kK});
    const OwnedTensor out = make_tensor({kN, kH * kK}), lse = make_tensor({kB, kH, kT});
    const OwnedTensor scratch = make_tensor({std::max<int64_t>(1, ops::attention_workspace(kAttention))});
    ops::attention_forward(kCpu, kAttention, q, k, v, out, lse, scratch);
    return [=, dout = make_tensor({kN, kH * kK}), dq = make_tensor({kN, kH * kK}),
            dk = make_tensor({kN, kG * kK}), dv = make_tensor({kN, kG * kK})] {
      ops::attention_backward(kCpu, kAttention, dout, q, k, v, out, lse, dq, dk, dv, scratch);
    };
  });
}

// One product of N D V multiply-adds for the loss, three with gradients, two to compare.
void add_cross_entropy(int64_t vocab) {
  const double product = 2.0 * kN * kD * static_cast<double>(vocab);
  const std::string suffix = fmt::format("/V:{}", vocab);
  add("cross_entropy/loss" + suffix, Unit::flops, product, [=] {
    return [hidden = make_tensor({kN, kD}), head = make_tensor({vocab, kD}, 0.05),
            targets = make_indices(kN, vocab), nll = make_tensor({kN}),
            scratch = make_tensor({ops::cross_entropy_workspace(vocab)})] {
      ops::cross_entropy(kCpu, hidden, head, targets, 1.0f, nll, {}, {}, scratch);
    };
  });
  add("cross_entropy/gradients" + suffix, Unit::flops, 3 * product, [=] {
    return [hidden = make_tensor({kN, kD}), head = make_tensor({vocab, kD}, 0.05),
            targets = make_indices(kN, vocab), nll = make_tensor({kN}), dhidden = make_tensor({kN, kD}),
            dhead = make_tensor({vocab, kD}), scratch = make_tensor({ops::cross_entropy_workspace(vocab)})] {
      ops::cross_entropy(kCpu, hidden, head, targets, 1.0f, nll, dhidden, dhead, scratch);
    };
  });
  add("cross_entropy_compare" + suffix, Unit::flops, 2 * product, [=] {
    return [clean = make_tensor({kN, kD}), hidden = make_tensor({kN, kD}, 0.9),
            head = make_tensor({vocab, kD}, 0.05), targets = make_indices(kN, vocab), nll = make_tensor({kN}),
            kl = make_tensor({kN}), flipped = make_indices(kN, 2),
            scratch = make_tensor({ops::cross_entropy_compare_workspace(vocab)})] {
      ops::cross_entropy_compare(kCpu, clean, hidden, head, targets, nll, kl, flipped, scratch);
    };
  });
}

struct RoutingOperands {
  std::vector<OwnedTensor> owned;
  std::vector<Tensor> sources, d_sources;
  ops::RoutingSite site;
  ops::RoutingGradients gradients;
  Tensor addend, output, scratch;

  Tensor own(Shape shape) {
    owned.push_back(make_tensor(shape));
    return owned.back();
  }
  RoutingOperands(int64_t d, int64_t n, bool backward) {
    for (int64_t j = 0; j < n; ++j) sources.push_back(own({kN, d}));
    for (int64_t j = 0; backward && j < n; ++j) d_sources.push_back(own({kN, d}));
    site = {.sources = sources,
            .query = own({d}),
            .key_norm = own({d}),
            .recency_bias = own({1}),
            .key_eps = 1e-6f,
            .norm_weight = own({d}),
            .norm_eps = 1e-6f,
            .weights = own({kN, n}),
            .inv_rms = own({kN, n}),
            .dots = own({kN, n}),
            .rstd = own({kN})};
    output = own({kN, d});
    addend = own({kN, d});
    ops::zero(kCpu, addend);  // repeated calls leave the sources as they are
    ops::routing_forward(kCpu, site, addend, output);
    if (!backward) return;
    gradients = {.sources = d_sources,
                 .query = own({d}),
                 .key_norm = own({d}),
                 .recency_bias = own({1}),
                 .norm_weight = own({d})};
    scratch = own({ops::reduction_workspace(2 * d + 1)});
  }
};

// Forward: n sources, the addend, the current state and the output written. Backward: doutput, n sources, n
// gradients read and written.
void add_routing(int64_t d, int64_t n) {
  const std::string suffix = fmt::format("/D:{}/n:{}", d, n);
  const double pass = 4.0 * kN * static_cast<double>(d);
  add("routing_forward" + suffix, Unit::bytes, static_cast<double>(n + 3) * pass, [=] {
    return [o = std::make_shared<RoutingOperands>(d, n, false)] {
      ops::routing_forward(kCpu, o->site, o->addend, o->output);
    };
  });
  add("routing_backward" + suffix, Unit::bytes, static_cast<double>(3 * n + 1) * pass, [=] {
    return [o = std::make_shared<RoutingOperands>(d, n, true)] {
      ops::routing_backward(kCpu, o->site, o->output, o->gradients, o->scratch);
    };
  });
}

void add_all() {
  add_memory();
  add_gemm("qkv", Op::none, Op::transpose, kN, kAttention.qkv_cols(), kD);
  add_gemm("gate_up", Op::none, Op::transpose, kN, 2 * kF, kD);
  add_gemm("down", Op::none, Op::transpose, kN, kD, kF);
  add_gemm("gate_up/dx", Op::none, Op::none, kN, kD, 2 * kF);
  add_gemm("gate_up/dweight", Op::transpose, Op::none, 2 * kF, kD, kN);
  add_embedding();
  add_norms();
  add_attention();
  add_cross_entropy(kV);
  add_cross_entropy(8192);
  add_routing(kD, 5);
  for (int64_t n = 2; n <= 9; ++n) add_routing(2 * kD, n);
}

}  // namespace
}  // namespace depthroute::bench

int main(int argc, char** argv) try {
  using namespace depthroute;
  prepare_process(argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  bench::machine = bench::measure_machine();
  fmt::print("{}; sgemm 2048^3 {:.1f} GFLOP/s, triad {:.1f} GB/s\n", describe(Device::cpu),
             bench::machine.gflops, bench::machine.gigabytes);
  benchmark::AddCustomContext("sgemm_gflops", fmt::format("{:.1f}", bench::machine.gflops));
  benchmark::AddCustomContext("triad_gigabytes", fmt::format("{:.1f}", bench::machine.gigabytes));
  bench::add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "depthroute-bench-ops: {}\n", error.what());
  return 1;
}
