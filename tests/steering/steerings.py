"""Any steering, for hypothesis: every operator, scope and condition, on vectors of awkward names."""

from __future__ import annotations

from hypothesis import strategies as st

from sample_vectors import MODEL, directions, make_reader
from trimtab.errors import VectorError
from trimtab.steering import (
    Ablate,
    Add,
    AllOf,
    AnyOf,
    Bound,
    Cap,
    Clamp,
    Comparison,
    FalsePositives,
    Floor,
    Not,
    Part,
    Rotate,
    Schedule,
    Scope,
    Steering,
    Term,
)
from trimtab.vectors import ControlVector

NAMES = (
    "happy",
    "my-vector.v2",
    "when",
    "not",
    "none",
    "floor",
    "1e",
    "-",
    "glücklich",
    "./a/b.safetensors",
    r"C:\x\new.safetensors",
    "d:/x y/b.safetensors",
    "0.5 * happy + formal",
    'say "no"',
    "ends in \\",
    "two\nlines",
    "a:b",
    "a[3]",
)
LAYERS = range(MODEL.layers)
VECTORS = {
    name: make_reader(
        name, seed=seed, directions=directions(LAYERS, seed=seed), norms=dict.fromkeys(LAYERS, 9.0),
        weights=dict.fromkeys(LAYERS, 1.0),
    )
    for seed, name in enumerate(NAMES)
}  # fmt: skip


def find(name: str) -> ControlVector:
    """Return the vector of a name, always the same one."""
    if name not in VECTORS:
        raise VectorError(f"no vector named {name!r}", fix="train it")
    return VECTORS[name]


names = st.sampled_from(NAMES)
numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(min_size=1, max_size=8)
counts = st.integers(1, 99)
bounds = st.builds(Bound, numbers, st.sampled_from(["projection", "z"])) | st.builds(
    Bound, st.floats(0, 100), st.just("percentile")
)
unsized = st.one_of(
    st.builds(Ablate),
    st.builds(Floor, bounds),
    st.builds(Cap, bounds),
    st.builds(lambda bound: Clamp(bound, bound), bounds),
    st.builds(lambda a, b: Clamp(Bound(min(a, b), "z"), Bound(max(a, b), "z")), numbers, numbers),
    st.builds(lambda a, b: Clamp(Bound(a, "z"), Bound(b)), numbers, numbers),
    st.builds(Rotate, st.floats(-180, 180)),
)
sized = st.builds(Add, st.booleans()) | st.just(Rotate())
layers = st.none() | st.sampled_from(["all", "middle"]) | st.sets(st.sampled_from(LAYERS), min_size=1).map(tuple)
schedules = st.none() | st.builds(Schedule, st.sampled_from(["decay", "half-life"]), st.floats(1e-300, 1e300))
free_parts = st.builds(Part, st.just("after"), text=texts)
scopes = st.one_of(
    st.just(Scope()),
    st.builds(
        lambda kinds, count, free, schedule: Scope(
            (*map(Part, kinds), Part("first", count=count + 100), Part("from", count=count), *free), schedule
        ),
        st.sampled_from([(), ("generated",), ("assistant", "answer"), ("thinking",)]),
        counts,
        st.lists(free_parts, max_size=2),
        schedules,
    ),
    st.builds(
        lambda kinds, free, text: Scope((*map(Part, kinds), *free, Part("before", text=text + "!?"))),
        st.sampled_from([("prompt",), ("system", "prompt"), ("user",)]),
        st.lists(st.builds(Part, st.just("after"), text=st.sampled_from(["a", ",", '"', "\\", ") when"])), max_size=2),
        texts,
    ),
)


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """Any comparison; with hysteresis where it is read at tokens."""
    name, side = draw(names), draw(st.sampled_from(["above", "below"]))
    threshold = draw(numbers | st.builds(FalsePositives, st.floats(0.01, 0.99)))
    at = draw(st.sampled_from(["prompt", "token", "last-user-turn"]))
    level = Comparison(find(name), side, threshold, at).level
    other = {"above": st.floats(max_value=level), "below": st.floats(min_value=level)}[side].filter(
        lambda value: abs(value) < float("inf") and abs(level - value) < float("inf")
    )
    release = draw(st.none() | other) if at == "token" else None
    return Comparison(find(name), side, threshold, at, release, name)


conditions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, min_size=2, max_size=3)),
        st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


@st.composite
def terms(draw: st.DrawFn) -> Term:
    """Any term, named as its vector is found."""
    name, amounts = draw(names), (None, None)
    operator = draw(sized | unsized)
    if operator == Rotate() or isinstance(operator, Add):
        amounts = draw(st.tuples(numbers, st.none()) | st.tuples(st.none(), numbers))
    return Term(
        find(name), *amounts, operator, draw(layers), draw(scopes), draw(st.none() | conditions), draw(st.just(name))
    )


steerings = st.lists(terms(), max_size=3).map(lambda drawn: Steering(tuple(drawn)))
