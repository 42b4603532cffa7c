// Routing with n sources: one site as in training, in one phase and in two, and what all sites of a block
// share.
#include <fmt/format.h>

#include <memory>
#include <vector>

#include "tests/bench/bench_ops.h"

namespace depthroute::bench {

namespace {

constexpr int64_t kSites = 8;  // of a block

/// Sites that share all sources but the last, and everything their calls need.
struct Routing {
  std::vector<OwnedTensor> owned;
  std::vector<Tensor> shared, d_shared;      // n - 1 states and their gradients
  std::vector<std::vector<Tensor>> sources;  // per site
  std::vector<ops::RoutingSite> sites;
  std::vector<ops::RoutingGradients> gradients;
  std::vector<Tensor> outputs, d_outputs;
  Tensor addend, d_current, scratch;

  /// The sites, with their partial mixes in their outputs.
  std::span<const ops::RoutingSite> in_two_phases() {
    for (size_t g = 0; g < sites.size() && !sites[g].partial.defined(); ++g) {
      sites[g].partial = outputs[g];
      sites[g].partial_lse = keep(f32({run.rows}));
    }
    return sites;
  }

  Tensor keep(OwnedTensor tensor) {
    owned.push_back(std::move(tensor));
    return owned.back();
  }
  Routing(int64_t d, int64_t n, int64_t num_sites, bool backward) {
    const int64_t rows = run.rows;
    for (int64_t j = 0; j + 1 < n; ++j) shared.push_back(keep(act({rows, d})));
    for (int64_t j = 0; backward && j + 1 < n; ++j) d_shared.push_back(keep(act({rows, d})));
    sources.resize(static_cast<size_t>(num_sites));
    addend = keep(act({rows, d}, 0.0));  // zeros, so that repeated calls do not change the sources
    for (std::vector<Tensor>& list : sources) {
      list = shared;
      list.push_back(keep(act({rows, d})));
      sites.push_back({.sources = list,
                       .query = keep(f32({d}, 0.1)),
                       .key_norm = keep(f32({d})),
                       .recency_bias = keep(f32({1})),
                       .key_eps = 1e-6f,
                       .norm_weight = keep(f32({d})),
                       .norm_eps = 1e-6f,
                       .weights = keep(f32({rows, n})),
                       .inv_rms = keep(f32({rows, n})),
                       .dots = keep(f32({rows, n})),
                       .rstd = keep(f32({rows})),
                       .output = keep(act({rows, d})),
                       .inverse_norm = keep(f32({d})),
                       .projection = keep(f32({rows}))});
      outputs.push_back(sites.back().output);
      ops::routing_forward(stream(), sites.back(), addend, outputs.back());
    }
    if (!backward) return;
    d_current = keep(act({rows, d}));
    scratch = keep(workspace(ops::routing_backward_workspace(run.target.device, d)));
    for (size_t i = 0; i < sites.size(); ++i) {
      gradients.push_back({.query = keep(f32({d})),
                           .key_norm = keep(f32({d})),
                           .recency_bias = keep(f32({1})),
                           .norm_weight = keep(f32({d}))});
      d_outputs.push_back(keep(act({rows, d})));
      ops::routing_backward(stream(), sites[i], d_outputs[i], {}, 1, d_current, gradients[i], scratch);
    }
  }
};

// Counts activations read or written, D per token; the statistics, 12 n bytes per token, are not counted.
void add_site(int64_t d, int64_t n) {
  const std::string suffix = fmt::format("/D:{}/n:{}", d, n);
  const double pass = run.e * times({run.rows, d});
  // n sources and the addend read; the current state and the output written.
  add("routing_forward" + suffix, Unit::bytes, static_cast<double>(n + 3) * pass, [=] {
    return [o = std::make_shared<Routing>(d, n, 1, false)] {
      ops::routing_forward(stream(), o->sites[0], o->addend, o->outputs[0]);
    };
  });
  // n - 1 sources read once, a partial mix of every site written.
  const auto both = [=] { return std::make_shared<Routing>(d, n, kSites, false); };
  add(fmt::format("routing_read_finished{}/sites:{}", suffix, kSites), Unit::bytes,
      static_cast<double>(n - 1 + kSites) * pass,
      [=] { return [o = both()] { ops::routing_read_finished(stream(), o->in_two_phases()); }; });
  // The same, then of every site: the partial mix, the current state and the addend read; the current state and
  // the output written.
  add(fmt::format("routing_two_phases{}/sites:{}", suffix, kSites), Unit::bytes,
      static_cast<double>(n - 1 + 6 * kSites) * pass, [=] {
        return [o = both()] {
          ops::routing_read_finished(stream(), o->in_two_phases());
          for (size_t g = 0; g < o->sites.size(); ++g)
            ops::routing_forward(stream(), o->sites[g], o->addend, o->outputs[g]);
        };
      });
  // n sources, the second time from the cache.
  add("routing_shares" + suffix, Unit::bytes, static_cast<double>(n) * pass, [=] {
    struct Shares {
      Routing routing;
      OwnedTensor norms, projections, cosines;
    };
    const auto table = [=] { return f32({run.rows, n}); };
    return [o = std::make_shared<Shares>(Routing(d, n, 1, false), table(), table(), table())] {
      ops::routing_shares(stream(), o->routing.sites[0], o->norms, o->projections, o->cosines);
    };
  });
  // doutput, the output and the current state; its gradient read and written.
  add("routing_backward" + suffix, Unit::bytes, 5 * pass, [=] {
    return [o = std::make_shared<Routing>(d, n, 1, true)] {
      ops::routing_backward(stream(), o->sites[0], o->d_outputs[0], {}, 1, o->d_current, o->gradients[0],
                            o->scratch);
    };
  });
  // n - 1 sources, their gradients read and written; doutput and output of every site.
  add(fmt::format("routing_backward_shared{}/sites:{}", suffix, kSites), Unit::bytes,
      static_cast<double>(3 * (n - 1) + 2 * kSites) * pass, [=] {
        return [o = std::make_shared<Routing>(d, n, kSites, true)] {
          ops::routing_backward_shared(stream(), o->sites, o->d_outputs, o->d_shared, {}, o->gradients,
                                       o->scratch);
        };
      });
}

}  // namespace

void add_routing(int64_t hidden) {
  if (hidden != 1024) return add_site(hidden, run.tiny ? 3 : 5);
  for (int64_t n = 2; n <= 9; ++n) add_site(hidden, n);
}

}  // namespace depthroute::bench
