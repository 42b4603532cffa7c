"""The depth plan of eval's models and the cells over it, written from the rules alone (no code of the
programs)."""
import math

FAMILIES = ["embedding", "older", "recent", "current"]
BANDS = ["early", "mid", "late"]
SUBLAYERS = ["attn", "mlp"]


class Plan:
    """Sites of a model: names, sublayers, bands, the states S_k each site reads, restarts."""

    def __init__(self, variant="cumulative", layers=6, blocks=3):
        self.variant, self.layers, self.blocks = variant, layers, blocks
        self.per_block = size = 2 * math.ceil(layers / blocks)
        last = 2 * layers
        self.states, self.restart = [], []
        for s in range(last):
            if variant == "additive" or (variant == "kimi" and s == 0):
                self.states.append([s])
            else:
                reach = s if variant == "cumulative" else s - 1
                self.states.append([0] + list(range(size, reach + 1, size)) + [s])
            boundary = s > 0 and s % size == 0
            self.restart.append(int(variant in ("reset", "kimi") and boundary
                                    or variant == "kimi" and s == 0))
        self.names = [f"layers.{s // 2}.{SUBLAYERS[s % 2]}" for s in range(last)]
        self.layer = [s // 2 for s in range(last)]
        self.sublayer = [SUBLAYERS[s % 2] for s in range(last)]
        self.band = [BANDS[3 * (s // 2) // layers] for s in range(last)]
        self.block = [s // size for s in range(last)]
        if variant in ("reset", "kimi"):
            self.states.append([0] + list(range(size, last, size)) + [last])
            self.names.append("final")
            self.restart.append(0)
            self.layer.append(layers)
            self.sublayer.append("final")
            self.band.append("none")
            self.block.append(-1)
        self.sites = len(self.states)
        self.widest = max(len(states) for states in self.states)
        self.outputs = ["embedding"] + self.names[:last]

    def family(self, site, source):
        count = len(self.states[site])
        if source == count - 1:
            return "current"
        if source == 0:
            return "embedding"
        return "recent" if source == count - 2 else "older"

    def duplicate_of(self, site, source):
        first = self.states[site].index(self.states[site][source])
        return first if first < source else -1

    def contains(self, state, output):
        """Whether S_state contains output `output` (0: the embedding, k: that of sublayer k - 1)."""
        return output <= state and not any(self.restart[s] for s in range(output, state))


class Cell:
    """An intervention and what it does at each site: flags[site][source] as in /plan/sources."""

    def __init__(self, plan, name, intervention, family="all", sublayer="all", band="all", site="", source=-1,
                 **more):
        self.name, self.intervention, self.family = name, intervention, family
        self.sublayer, self.band, self.site, self.source = sublayer, band, site, source
        self.distinct, self.value = more.get("distinct", 0), more.get("value", float("nan"))
        self.tokens, self.union = more.get("tokens", "all"), more.get("union", "")
        self.flags = [[0] * plan.widest for _ in range(plan.sites)]
        self.ablated, self.skipped, self.absent, self.duplicate = [], 0, 0, 0
        sourceless = family == "all" and site == ""
        for s, states in enumerate(plan.states):
            if sublayer not in ("all", plan.sublayer[s]) or band not in ("all", plan.band[s]) or site not in (
                    "", plan.names[s]):
                continue
            chosen = [
                j for j in range(len(states))
                if sourceless or j == source or (source < 0 and plan.family(s, j) == family)
            ]
            if self.distinct:
                chosen = [j for j in range(len(states)) if states[j] in {states[i] for i in chosen}]
            if not chosen or (sourceless and len(states) == 1):
                self.absent += 1
            elif len(chosen) == len(states) and not sourceless and intervention == "mask":
                self.skipped += 1
                self._flag(s, chosen, 2)
            else:
                self.ablated.append(s)
                self._flag(s, chosen, 1)
                rest = [states[j] for j in range(len(states)) if j not in chosen]
                self.duplicate += any(states[j] in rest for j in chosen)
        self.has_sources = not sourceless

    def _flag(self, site, sources, flag):
        for j in sources:
            self.flags[site][j] = flag

    @property
    def measured(self):
        return bool(self.ablated)


def make_cells(plan, grids=("mask", "mean", "resample"), edges=True, more=True):
    """Family grids, every edge, and a few cells of other kinds."""
    cells = [
        Cell(plan, f"{intervention}/{family}/{sublayer}/{band}", intervention, family, sublayer, band)
        for intervention in grids for family in FAMILIES for sublayer in SUBLAYERS for band in BANDS
    ]
    if edges:
        cells += [
            Cell(plan, f"mask/{plan.names[s]}/{j}", "mask", str(j), plan.sublayer[s], plan.band[s],
                 plan.names[s], j) for s in range(plan.sites) for j in range(len(plan.states[s]))
        ]
    if more:
        cells += [
            Cell(plan, "freeze/all/attn/all", "freeze", sublayer="attn"),
            Cell(plan, "uniform/all/mlp/late", "uniform", sublayer="mlp", band="late"),
            Cell(plan, "mask/current/attn/all/distinct", "mask", "current", "attn", distinct=1),
            Cell(plan, "mask/embedding/mlp/early/not_position_0", "mask", "embedding", "mlp", "early",
                 tokens="not_position_0")
        ]
    return cells
