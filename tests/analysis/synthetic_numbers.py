"""Outcomes of a made-up evaluation: documents over windows, routing weights, effects with planted answers. By
segment, seeded."""
import numpy as np

# What masking a family costs, nats per token. `embedding` in middle MLPs has the largest mass and no effect
# (weights below): the dissociation.
PLANTED = {
    ("embedding", "mlp", "early"): 0.9,
    ("current", "attn", "early"): 0.05,
    ("current", "mlp", "early"): 0.08,
    ("older", "attn", "late"): 0.06,
    ("recent", "attn", "late"): 0.02,
    ("recent", "mlp", "mid"): 0.03
}
SIZE_OF = {"mask": 1.0, "mean": 0.8, "resample": 1.2}


def layout(documents, seq_len, seed, separated=True):
    """Documents of uneven lengths over windows of seq_len targets: arrays document, sequence, first_token,
    tokens."""
    rng = np.random.default_rng([seed, 1])
    if not separated:
        index = np.arange(documents)
        return {
            "document": index * seq_len,
            "sequence": index,
            "first_token": np.zeros(documents, int),
            "tokens": np.full(documents, seq_len)
        }
    lengths = np.maximum(2, np.round(rng.lognormal(np.log(0.75 * seq_len), 0.6, documents))).astype(int)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    cuts = np.union1d(starts, np.arange(0, starts[-1], seq_len))
    first, tokens = cuts[:-1], np.diff(cuts)
    return {
        "document": starts[np.searchsorted(starts, first, side="right") - 1],
        "sequence": first // seq_len,
        "first_token": first % seq_len,
        "tokens": tokens
    }


def weights(plan, segment, seed, wrapped=None):
    """Sums over tokens of the routing weight, [segment, site, source]; wrapped: the recency bias b of a
    schedule."""
    rng = np.random.default_rng([seed, 2])
    count = len(segment["tokens"])
    result = np.zeros((count, plan.sites, plan.widest))
    for s, states in enumerate(plan.states):
        n = len(states)
        logits = np.zeros(n)
        logits[-1] = wrapped if wrapped is not None else rng.normal(0.5, 0.5)
        if wrapped is None:
            logits[:-1] = rng.normal(0, 0.7, n - 1)
            if plan.sublayer[s] == "mlp" and plan.band[s] == "mid":
                logits[0] = 3.0
        noise = 0 if wrapped is not None else rng.normal(0, 0.3, (count, n))
        a = np.exp(logits + noise) * np.ones((count, 1))
        result[:, s, :n] = a / a.sum(1, keepdims=True) * segment["tokens"][:, None]
    return result


def edge_effects(plan, seed):
    """What masking every (site, source) costs, nats per token: the planted family effects, spread over
    sites."""
    rng = np.random.default_rng([seed, 3])
    result = np.zeros((plan.sites, plan.widest))
    for s, states in enumerate(plan.states):
        for j in range(len(states)):
            planted = PLANTED.get((plan.family(s, j), plan.sublayer[s], plan.band[s]), 0.0)
            result[s, j] = planted / 2 * rng.uniform(0.7, 1.3) + rng.normal(0, 2e-5)
    return result


def outcomes(cells, segment, edges, seed, scale=1.0, skew=0.5):
    """delta_nll, abs_delta_nll, kl, flips, hit_change (hits under the cell − clean hits) by (cell, segment);
    NaN for cells that did not run."""
    rng = np.random.default_rng([seed, 4])
    tokens = segment["tokens"]
    _, document = np.unique(segment["document"], return_inverse=True)
    shape = (len(cells), len(tokens))
    result = {
        name: np.full(shape, np.nan)
        for name in ("delta_nll", "abs_delta_nll", "kl", "flips", "hit_change")
    }
    clean_hits = rng.binomial(tokens, 0.45)
    for c, cell in enumerate(cells):
        if not cell.measured:
            continue
        mean = scale * SIZE_OF.get(cell.intervention, 1.0) * sum(
            edges[s, j] for s in cell.ablated for j, flag in enumerate(cell.flags[s]) if flag == 1)
        of_document = rng.lognormal(-skew**2 / 2, skew, document.max() + 1)[document]
        spread = 0.2 * abs(mean) + 0.02
        delta = tokens * mean * of_document + np.sqrt(tokens) * rng.normal(0, spread, len(tokens))
        kl = tokens * 0.7 * abs(mean) * of_document + np.abs(rng.normal(0, spread, len(tokens))) * 0.1
        changed = min(0.9, 0.5 * abs(mean)**0.5)
        flips = rng.binomial(tokens, changed)
        result["delta_nll"][c], result["kl"][c], result["flips"][c] = delta, kl, flips
        result["abs_delta_nll"][c] = np.abs(delta) + np.sqrt(tokens) * spread
        result["hit_change"][c] = -np.minimum(clean_hits,
                                              np.minimum(flips, rng.binomial(tokens, 0.4 * changed)))
    return result, clean_hits


def clean_nll(segment, seq_len, clean_hits, seed):
    """nll and hit [sequence, token]: NaN and 255 where no target; the hits of a segment are its first tokens,
    in some order."""
    rng = np.random.default_rng([seed, 5])
    sequences = segment["sequence"].max() + 1
    nll = np.full((sequences, seq_len), np.nan, np.float32)
    hit = np.full((sequences, seq_len), 255, np.uint8)
    for sequence, first, tokens, hits in zip(segment["sequence"], segment["first_token"], segment["tokens"],
                                             clean_hits):
        place = slice(first, first + tokens)
        nll[sequence, place] = rng.gamma(2.0, 1.3, tokens)
        hit[sequence, place] = rng.permutation(np.arange(tokens) < hits)
    return nll, hit


def ratio_interval(sums, segment):
    """Estimate, low, high and standard error of Σx/Σn over documents, by the normal approximation: for the
    file only."""
    _, document = np.unique(segment["document"], return_inverse=True)
    add = lambda values: np.stack([np.bincount(document, row) for row in np.atleast_2d(values)])
    x, n = add(sums), add(segment["tokens"])[0]
    value = x.sum(1) / n.sum()
    error = np.sqrt(len(n) / max(len(n) - 1, 1) * ((x - value[:, None] * n)**2).sum(1)) / n.sum()
    return value, value - 1.96 * error, value + 1.96 * error, error
