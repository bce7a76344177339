from __future__ import annotations

import json

import pytest

from trimtab.vectors import vectors_folder


@pytest.fixture
def run(run_on, llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(llama)


def test_choose_shows_the_likeliest_first(run, llama):
    code, out, _ = run("choose", "Is it green?", "yes", "no", "[b]maybe[/b]")
    assert code == 0
    chosen = llama.choose("Is it green?", ["yes", "no", "[b]maybe[/b]"])
    rows = [line for line in out.splitlines() if "nats" in line]
    assert len(rows) == 3
    assert chosen.best in rows[0]
    assert f"{max(chosen.probabilities):.1%}" in rows[0]
    assert "[b]maybe[/b]" in out


def test_choose_json_is_that_of_the_engine(run, llama, random_vector):
    random_vector(llama, size=2.0, name="happy").save(vectors_folder() / "happy.safetensors")
    code, out, _ = run("choose", "-", "yes", "no", "--steer", "happy:1", "--json", stdin="Is it green?")
    assert code == 0
    assert json.loads(out)["steering"] == "happy:1"
    plain = json.loads(run("choose", "Is it green?", "yes", "no", "--json")[1])
    assert plain == llama.choose("Is it green?", ["yes", "no"]).to_json()
    assert plain["choices"] != json.loads(out)["choices"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("choose", "Is it?"), "Missing argument"),
        (("choose", "Is it?", "yes", "yes"), "given twice"),
        (("choose", "Is it?", "yes", "no", "--raw", "--system", "x"), "exclude each other"),
    ],
)
def test_choose_mistakes_are_reported_before_loading(no_model, arguments, says):
    code, _, err = no_model(*arguments)
    assert code == 2
    assert says in err
