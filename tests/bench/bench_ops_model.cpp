// All ops of the model except routing. e: bytes of an activation.
#include <fmt/format.h>

#include "tests/bench/bench_ops.h"

namespace depthroute::bench {

void add_embedding() {
  const int64_t n = run.rows, d = run.hidden, v = run.vocab;
  add("embedding_forward", Unit::bytes, 2 * run.e * times({n, d}), [=] {  // row of the table -> out
    return [tokens = indices(n, v), table = act({v, d}), out = act({n, d})] {
      ops::embedding_forward(stream(), tokens, table, out);
    };
  });
  add("embedding_backward", Unit::bytes, (run.e + 8) * times({n, d}), [=] {  // dout, dtable (f32) twice
    return [tokens = indices(n, v), dout = act({n, d}), dtable = f32({v, d})] {
      ops::embedding_backward(stream(), tokens, dout, dtable);
    };
  });
}

namespace {

void add_qk_norm_rope() {
  const ops::AttentionShape shape = run.attention;
  const int64_t n = run.rows, k = shape.head_dim, q_cols = shape.q_cols(), kv_cols = shape.kv_cols();
  const double rotated = times({n, q_cols + kv_cols});
  add("qk_norm_rope_forward", Unit::bytes, 2 * run.e * rotated, [=] {  // q and k of qkv, q and k
    return [=, qkv = act({n, shape.qkv_cols()}), q_weight = f32({k}), k_weight = f32({k}),
            rope = f32({shape.seq_len, k}), q_out = act({n, q_cols}), k_out = act({n, kv_cols})] {
      ops::qk_norm_rope_forward(stream(), shape, qkv, q_weight, k_weight, 1e-6f, rope, q_out, k_out);
    };
  });
  add("qk_norm_rope_backward", Unit::bytes, 3 * run.e * rotated, [=] {  // dq and dk, qkv, dqkv
    return [=, dq = act({n, q_cols}), dk = act({n, kv_cols}), qkv = act({n, shape.qkv_cols()}),
            dqkv = act({n, shape.qkv_cols()}), q_weight = f32({k}), k_weight = f32({k}),
            rope = f32({shape.seq_len, k}), dq_weight = f32({k}), dk_weight = f32({k}),
            scratch = workspace(ops::reduction_workspace(run.target.device, 2 * k))] {
      ops::qk_norm_rope_backward(stream(), shape, dq, dk, qkv, q_weight, k_weight, 1e-6f, rope, dqkv,
                                 dq_weight, dk_weight, scratch);
    };
  });
}

void add_swiglu() {
  const int64_t n = run.rows, f = run.intermediate;
  add("swiglu_forward", Unit::bytes, 3 * run.e * times({n, f}), [=] {  // gate, up, act
    return [gate_up = act({n, 2 * f}, 3.0), product = act({n, f})] {
      ops::swiglu_forward(stream(), gate_up, product);
    };
  });
  add("swiglu_backward", Unit::bytes, 6 * run.e * times({n, f}),
      [=] {  // dact, gate, up, their gradients, act
        return
            [dproduct = act({n, f}), gate_up = act({n, 2 * f}, 3.0), dgate_up = act({n, 2 * f}),
             product = act({n, f})] { ops::swiglu_backward(stream(), dproduct, gate_up, dgate_up, product); };
      });
}

}  // namespace

void add_norms() {
  const int64_t n = run.rows, d = run.hidden;
  add("rms_norm_forward", Unit::bytes, 2 * run.e * times({n, d}), [=] {  // x, y
    return [x = act({n, d}), weight = f32({d}), y = act({n, d}), rstd = f32({n})] {
      ops::rms_norm_forward(stream(), x, weight, 1e-6f, y, rstd);
    };
  });
  add("rms_norm_backward", Unit::bytes, 4 * run.e * times({n, d}), [=] {  // dy, x, dx twice
    return [dy = act({n, d}), x = act({n, d}), weight = f32({d}), rstd = f32({n}), dx = act({n, d}),
            dweight = f32({d}), scratch = workspace(ops::reduction_workspace(run.target.device, d))] {
      ops::rms_norm_backward(stream(), dy, x, weight, rstd, dx, dweight, scratch);
    };
  });
  add_qk_norm_rope();
  add_swiglu();
}

// A causal product computes half of the T x T scores: 2 B H T^2 K operations forward (two products), and 2.5
// times as many backward (five products).
void add_attention() {
  const ops::AttentionShape shape = run.attention;
  const double forward =
      2 * times({shape.batch, shape.num_heads, shape.seq_len, shape.seq_len, shape.head_dim});
  struct Operands {
    OwnedTensor q, k, v, out, lse, scratch;
  };
  const auto operands = [shape] {
    const int64_t n = shape.tokens();
    return Operands{act({n, shape.q_cols()}),
                    act({n, shape.kv_cols()}),
                    act({n, shape.kv_cols()}),
                    act({n, shape.q_cols()}),
                    f32({shape.batch, shape.num_heads, shape.seq_len}),
                    workspace(ops::attention_workspace(run.target.device, run.target.act, shape))};
  };
  add("attention_forward", Unit::flops, forward, [=] {
    return [shape, o = operands()] {
      ops::attention_forward(stream(), shape, o.q, o.k, o.v, o.out, o.lse, o.scratch);
    };
  });
  add("attention_backward", Unit::flops, 2.5 * forward, [=] {
    const Operands o = operands();
    ops::attention_forward(stream(), shape, o.q, o.k, o.v, o.out, o.lse, o.scratch);
    return [shape, o, dout = act(o.q.view.shape), dq = act(o.q.view.shape), dk = act(o.k.view.shape),
            dv = act(o.k.view.shape)] {
      ops::attention_backward(stream(), shape, dout, o.q, o.k, o.v, o.out, o.lse, dq, dk, dv, o.scratch);
    };
  });
}

// One product of N D V multiply-adds for the loss, three with gradients, two to compare.
void add_cross_entropy(int64_t vocab) {
  const int64_t n = run.rows, d = run.hidden;
  const double product = 2 * times({n, d, vocab});
  const std::string suffix = fmt::format("/V:{}", vocab);
  const auto scratch = [n, vocab] {
    return workspace(ops::cross_entropy_workspace(run.target.device, run.target.act, n, vocab));
  };
  add("cross_entropy/loss" + suffix, Unit::flops, product, [=] {
    return [hidden = act({n, d}), head = act({vocab, d}, 0.05), targets = indices(n, vocab), nll = f32({n}),
            space = scratch()] {
      ops::cross_entropy(stream(), hidden, head, targets, 1.0f, nll, {}, {}, space);
    };
  });
  add("cross_entropy/gradients" + suffix, Unit::flops, 3 * product, [=] {
    return [hidden = act({n, d}), head = act({vocab, d}, 0.05), targets = indices(n, vocab), nll = f32({n}),
            dhidden = act({n, d}), dhead = f32({vocab, d}), space = scratch()] {
      ops::cross_entropy(stream(), hidden, head, targets, 1.0f, nll, dhidden, dhead, space);
    };
  });
  add("cross_entropy_compare" + suffix, Unit::flops, 2 * product, [=] {
    return [clean = act({n, d}), hidden = act({n, d}, 0.9), head = act({vocab, d}, 0.05),
            targets = indices(n, vocab), nll = f32({n}), kl = f32({n}), flipped = indices(n, 2),
            hit = indices(n, 2),
            space = workspace(
                ops::cross_entropy_compare_workspace(run.target.device, run.target.act, n, vocab))] {
      ops::cross_entropy_compare(stream(), clean, hidden, head, targets, nll, kl, flipped, hit, space);
    };
  });
}

}  // namespace depthroute::bench
