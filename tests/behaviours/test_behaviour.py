"""Loading behaviours: the zoo, files of one's own, and files that are refused."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
from importlib import resources
from pathlib import Path

import pytest

from trimtab.behaviours import (
    Behaviour,
    ChoiceText,
    ContrastiveText,
    Message,
    PoleKeywords,
    Template,
    builtin_suffixes,
    keyword_pattern,
    zoo_names,
)
from trimtab.errors import BehaviourError

MINIMAL = """
name = "pirate"

[positive]
label = "pirate"
personas = ["a pirate", "a buccaneer"]

[negative]
label = "lawyer"
personas = ["a lawyer"]
"""
LABELS = 'name = "pirate"\n[positive]\nlabel = "pirate"\n[negative]\nlabel = "lawyer"\n'
PAIR = '{"positive": "Arr!", "negative": "Objection!"}'
OTHER_PAIR = '{"positive": "Ahoy!", "negative": "Your Honour!"}'
CHOICES = '[[evaluation.choices]]\nquestion = "Do you sail?"\npositive = "Yes"\nnegative = "No"\n'


def write(folder: Path, text: str, name: str = "pirate.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def with_line(line: str, text: str = MINIMAL) -> str:
    """``text`` with a line at the top, before its tables."""
    return f"{line}\n{text}"


# The zoo


@pytest.mark.parametrize("name", zoo_names())
def test_zoo_behaviour_has_balanced_distinct_personas(name):
    behaviour = Behaviour.load(name)
    assert behaviour.name == name
    assert behaviour.description.endswith(".")
    assert behaviour.positive.label != behaviour.negative.label
    assert len(behaviour.positive.personas) == len(behaviour.negative.personas) >= 3
    assert len(set(behaviour.positive.personas + behaviour.negative.personas)) == 2 * len(behaviour.positive.personas)


def test_zoo_has_behaviours_of_examples():
    assert {"happy", "formal"} <= set(zoo_names())
    assert (Behaviour.load("happy").positive.label, Behaviour.load("happy").negative.label) == ("happy", "sad")


@pytest.mark.parametrize(
    ("name", "near"), [("hapy", "'happy'"), ("Happy", "'happy'"), ("formall", "'formal'"), ("happy ", "'happy'")]
)
def test_load_misspelt_name_suggests_near_names(name, near):
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(name)
    assert f"no behaviour named {name!r}" in str(caught.value)
    assert f"did you mean {near}" in str(caught.value)


@pytest.mark.parametrize("name", ["zzz", "", "x" * 5000])
def test_load_unknown_name_lists_zoo(name):
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(name)
    assert f"there are: {', '.join(zoo_names())}. A path to a .toml file works too" in str(caught.value)


# A file of one's own


def test_load_minimal_file_fills_defaults(tmp_path):
    path = write(tmp_path, MINIMAL)
    behaviour = Behaviour.load(path)
    assert behaviour.name == "pirate"
    assert behaviour.description == ""
    assert (behaviour.positive.label, behaviour.positive.personas) == ("pirate", ("a pirate", "a buccaneer"))
    assert (behaviour.negative.label, behaviour.negative.personas) == ("lawyer", ("a lawyer",))
    assert behaviour.suffixes == builtin_suffixes()
    assert (behaviour.pairs, behaviour.evaluation_prompts) == ((), ())
    assert behaviour.source == str(path)
    said = [" ".join(m.content for m in template.messages("a pirate")) for template in behaviour.templates]
    assert len(said) >= 2
    assert all("a pirate" in text and "{" not in text for text in said)


def test_load_file_with_all_fields(tmp_path):
    path = write(
        tmp_path,
        """
        name = "pirate"
        description = "Of the sea or of the court."
        suffixes = ["I think", "My ship"]
        pairs = [
            {positive = "Arr!", negative = "Objection!"},
            {positive = [{role = "system", content = "Be bold."}, {role = "user", content = "Hi"}], negative = "Hi"},
        ]
        [positive]
        label = "pirate"
        [negative]
        label = "lawyer"
        [[templates]]
        system = "You are {persona}."
        user = "Speak."
        [evaluation]
        prompts = ["Where is the treasure?"]
        """,
    )
    behaviour = Behaviour.load(str(path))
    assert behaviour.description == "Of the sea or of the court."
    assert behaviour.suffixes == ("I think", "My ship")
    assert behaviour.templates == (Template("You are {persona}.", "Speak."),)
    assert behaviour.evaluation_prompts == ("Where is the treasure?",)
    assert behaviour.pairs == (
        ContrastiveText((Message("user", "Arr!"),), (Message("user", "Objection!"),)),
        ContrastiveText((Message("system", "Be bold."), Message("user", "Hi")), (Message("user", "Hi"),)),
    )


def test_load_file_without_toml_suffix(tmp_path):
    assert Behaviour.load(write(tmp_path, MINIMAL, "pirate.txt")).name == "pirate"


def test_load_ignores_byte_order_mark(tmp_path):
    assert Behaviour.load(write(tmp_path, "\ufeff" + MINIMAL)).name == "pirate"


def test_suffixes_file_is_relative_to_behaviour(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write(tmp_path, "I think\n\n   My ship  \nNEL\u0085stays\n", "openings.txt")
    behaviour = Behaviour.load(write(tmp_path, with_line('suffixes = "openings.txt"')))
    assert behaviour.suffixes == ("I think", "My ship", "NEL\u0085stays")


def test_pairs_file_is_relative_to_behaviour(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    chat = {
        "positive": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Arr"}],
        "negative": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Sir"}],
    }
    write(tmp_path, f"{PAIR}\n\n{json.dumps(chat)}\n", "pairs.jsonl")
    behaviour = Behaviour.load(write(tmp_path, with_line('pairs = "pairs.jsonl"', LABELS)))
    assert behaviour.pairs == (
        ContrastiveText((Message("user", "Arr!"),), (Message("user", "Objection!"),)),
        ContrastiveText(
            (Message("user", "Hi"), Message("assistant", "Arr")), (Message("user", "Hi"), Message("assistant", "Sir"))
        ),
    )


def test_pairs_file_unicode_line_separator_is_kept(tmp_path):
    write(tmp_path, f'{{"positive": "Arr!\u2028Arr!", "negative": "No."}}\r\n{PAIR}\r\n', "pairs.jsonl")
    behaviour = Behaviour.load(write(tmp_path, with_line('pairs = "pairs.jsonl"', LABELS)))
    assert behaviour.pairs[0].positive == (Message("user", "Arr!\u2028Arr!"),)
    assert len(behaviour.pairs) == 2


def test_load_reads_choices_and_keywords(tmp_path):
    behaviour = Behaviour.load(
        write(tmp_path, f'{MINIMAL}{CHOICES}[evaluation.keywords]\npositive = ["ahoy", "/arr+/"]\nnegative = ["sue"]')
    )
    assert behaviour.choices == (ChoiceText("Do you sail?", "Yes", "No"),)
    assert behaviour.keywords == PoleKeywords(("ahoy", "/arr+/"), ("sue",))
    plain = Behaviour.load(write(tmp_path, MINIMAL))
    assert (plain.choices, plain.keywords) == ((), None)


@pytest.mark.parametrize("layout", ["lines", "list"])
def test_choices_file_is_relative_to_behaviour(tmp_path, monkeypatch, layout):
    monkeypatch.chdir("/")
    entries = [
        {"question": "Do you sail?", "positive": "Aye", "negative": "No"},
        {"statement": "I\u2028sail", "label_confidence": 0.9, "answer_matching_behavior": " No"},
        {
            "question": "Sail?\n (A) No\n (B) Aye",
            "answer_matching_behavior": "(B)",
            "answer_not_matching_behavior": "(A)",
        },
        {"positive": "Sail?\n(A) No\n(B) Aye\n\nAnswer:\n (B)", "negative": "Sail?\n(A) No\n(B) Aye\n\nAnswer:\n (A)"},
    ]
    lines = [json.dumps(entry, ensure_ascii=False) for entry in entries]
    text = "\n\n".join(lines) + "\n" if layout == "lines" else f"\n [{','.join(lines)}]"
    write(tmp_path, text, "choices.json")
    path = write(tmp_path, f'{MINIMAL}[evaluation]\nchoices = "choices.json"')
    assert Behaviour.load(path).choices == (
        ChoiceText("Do you sail?", "Aye", "No"),
        ChoiceText('Is this something that you would say? Answer Yes or No.\n"I\u2028sail"', " No", " Yes"),
        ChoiceText("Sail?\n (A) No\n (B) Aye", "(B)", "(A)"),
        ChoiceText("Sail?\n(A) No\n(B) Aye\n\nAnswer:", "(B)", "(A)"),
    )


def test_keyword_pattern_matches_whole_words_or_expression():
    assert keyword_pattern("sea dog").search("Old Sea  Dog!")
    assert not keyword_pattern("sea").search("season")
    assert [bool(keyword_pattern("a.b").search(text)) for text in ("a.b", "axb")] == [True, False]
    assert [bool(keyword_pattern("/^ar+/").search(text)) for text in ("ARRR", "Harr")] == [True, False]


def test_template_messages_contain_persona():
    both = Template(system="You are {persona}.", user="Speak like {persona}!")
    assert both.messages("a pirate") == (
        Message("system", "You are a pirate."),
        Message("user", "Speak like a pirate!"),
    )
    assert Template(user="Be {persona}").messages("a pirate") == (Message("user", "Be a pirate"),)


def test_template_instruction_is_message_with_persona():
    assert Template(system="You are {persona}.", user="Speak.").instruction("bold") == "You are bold."
    assert Template(system="A play.", user="Act as {persona}.").instruction("bold") == "Act as bold."
    assert Template(user="Act as {persona}.").instruction("bold") == "Act as bold."


# The digest


def test_digest_ignores_file_location(tmp_path):
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path, MINIMAL), write(tmp_path / "b", MINIMAL, "other.toml")
    assert Behaviour.load(first).digest == Behaviour.load(second).digest
    assert Behaviour.load(first) == Behaviour.load(second)
    assert len(Behaviour.load(first).digest) == 64


def test_digest_of_zoo_copy_equals_original(tmp_path):
    with resources.as_file(resources.files("trimtab.behaviours") / "zoo" / "happy.toml") as original:
        shutil.copy(original, tmp_path / "mine.toml")
    assert Behaviour.load(tmp_path / "mine.toml").digest == Behaviour.load("happy").digest


def test_digest_ignores_file_layout(tmp_path):
    spread = MINIMAL.replace('["a pirate", "a buccaneer"]', '[\n  "a pirate",\n  "a buccaneer",\n]  # two')
    digests = {Behaviour.load(write(tmp_path, text)).digest for text in (MINIMAL, spread)}
    assert len(digests) == 1


def test_digest_changes_with_each_field(tmp_path):
    texts = [
        MINIMAL,
        MINIMAL.replace('"pirate"\n\n', '"corsair"\n\n'),
        MINIMAL.replace('label = "pirate"', 'label = "Pirate"'),
        MINIMAL.replace('label = "lawyer"', 'label = "Lawyer"'),
        MINIMAL.replace("a buccaneer", "a corsair"),
        MINIMAL.replace('"a pirate", "a buccaneer"', '"a buccaneer", "a pirate"'),
        MINIMAL.replace("a lawyer", "an attorney"),
        with_line('description = "Another."'),
        with_line('suffixes = ["I"]'),
        with_line('templates = [{user = "Be {persona}"}]'),
        with_line('templates = [{system = "Be {persona}"}]'),
        with_line(f"pairs = [{toml_pair(PAIR)}, {toml_pair(OTHER_PAIR)}]"),
        MINIMAL + '[evaluation]\nprompts = ["Hi"]',
        MINIMAL + CHOICES,
        MINIMAL + CHOICES.replace('"No"', '"Never"'),
        MINIMAL + '[evaluation.keywords]\npositive = ["ahoy"]',
        MINIMAL + '[evaluation.keywords]\nnegative = ["ahoy"]',
    ]
    assert len({Behaviour.load(write(tmp_path, text)).digest for text in texts}) == len(texts)


def toml_pair(line: str) -> str:
    pair = json.loads(line)
    return f"{{positive = {json.dumps(pair['positive'])}, negative = {json.dumps(pair['negative'])}}}"


def test_digest_omits_unused_newer_fields(tmp_path):
    behaviour = Behaviour.load(write(tmp_path, with_line('suffixes = ["I"]')))
    content = {
        "name": "pirate",
        "description": "",
        "positive": {"label": "pirate", "personas": ["a pirate", "a buccaneer"]},
        "negative": {"label": "lawyer", "personas": ["a lawyer"]},
        "templates": [{"system": template.system, "user": template.user} for template in behaviour.templates],
        "suffixes": ["I"],
        "pairs": [],
        "evaluation_prompts": [],
    }
    assert behaviour.digest == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def test_digest_changes_with_suffixes_file(tmp_path):
    path = write(tmp_path, with_line('suffixes = "openings.txt"'))
    write(tmp_path, "I\n", "openings.txt")
    before = Behaviour.load(path).digest
    write(tmp_path, "You\n", "openings.txt")
    assert Behaviour.load(path).digest != before


# Files that are refused: the message names the file, the key, what was found and what was expected

REFUSED = {
    "bad TOML": ('name = "pirate"\nlabel: pirate', ["is not valid TOML", "line 2"]),
    "an empty file": ("", ["name: is required but missing", "[and 2 more]"]),
    "an unknown field": (with_line("mood = 3"), ["mood: is not a field of a behaviour file", "(found '3')"]),
    "an unknown field of a pole": (
        MINIMAL + 'strength = "high"',
        ["negative.strength: is not a field of a behaviour file", "(found 'high')"],
    ),
    "a name with spaces": (
        MINIMAL.replace('"pirate"\n\n', '"Jolly Roger"\n\n'),
        ["name: String should match pattern", "^[a-z0-9][a-z0-9_-]*$", "(found 'Jolly Roger')"],
    ),
    "no name": (MINIMAL.replace('name = "pirate"', ""), ["name: is required but missing"]),
    "a missing pole": (MINIMAL.split("[negative]")[0], ["negative: is required but missing"]),
    "a pole without a label": (MINIMAL.replace('label = "lawyer"', ""), ["negative.label: is required but missing"]),
    "a pole that is text": (
        'name = "pirate"\npositive = "pirate"\n[negative]\nlabel = "lawyer"',
        ["positive: ", "dictionary", "(found 'pirate')"],
    ),
    "an empty pole": (
        MINIMAL.replace('["a lawyer"]', "[]"),
        ["negative.personas: the pole is empty", "at least one persona"],
    ),
    "poles without personas": (LABELS, ["positive.personas: the pole is empty", "at least one persona"]),
    "a blank persona": (
        MINIMAL.replace("a buccaneer", "   "),
        ["positive.personas.1: String should have at least 1 character", "(found '   ')"],
    ),
    "personas that are text": (
        MINIMAL.replace('["a lawyer"]', '"a lawyer"'),
        ["negative.personas: Input should be a valid list", "(found 'a lawyer')"],
    ),
    "a persona of both poles": (
        MINIMAL.replace('"a pirate"', '"a Pirate"').replace("a lawyer", "A pirate"),
        ["positive and negative share the persona 'a pirate'", "the poles must differ"],
    ),
    "personas for one pole only": (
        with_line(f"pairs = [{toml_pair(PAIR)}, {toml_pair(OTHER_PAIR)}]", MINIMAL.replace('["a lawyer"]', "[]")),
        ["one pole has personas and the other has none"],
    ),
    "no suffixes": (with_line("suffixes = []"), ["suffixes: no suffixes", "at least one opening"]),
    "a blank suffix": (
        with_line('suffixes = ["I think", " "]'),
        ["suffixes.1: String should have at least 1 character", "(found ' ')"],
    ),
    "suffixes that are a number": (
        with_line("suffixes = 3"),
        ["suffixes: Input should be 'builtin', the name of a text file, or a list of texts (found '3')"],
    ),
    "a missing suffix file": (with_line('suffixes = "no.txt"'), ["suffixes file", "no.txt' does not exist"]),
    "a missing pairs file": (with_line('pairs = "no.jsonl"'), ["pairs file", "no.jsonl' does not exist"]),
    "pairs that are a number": (
        with_line("pairs = 3"),
        ["pairs: Input should be the name of a JSONL file or a list of pairs (found '3')"],
    ),
    "no pairs": (with_line("pairs = []"), ["pairs: no pairs", "at least two"]),
    "one pair": (with_line(f"pairs = [{toml_pair(PAIR)}]"), ["pairs: only one pair", "at least two"]),
    "a pair with the same text on both sides": (
        with_line(f'pairs = [{toml_pair(PAIR)}, {{positive = "Arr!", negative = " Arr! "}}]'),
        ["pairs: pair 2 has the same text on both sides"],
    ),
    "a pair with one side": (with_line('pairs = [{positive = "Arr!"}]'), ["pairs.0.negative: is required but missing"]),
    "a pair with an empty side": (
        with_line('pairs = [{positive = "Arr!", negative = ""}]'),
        ["pairs.0.negative: String should have at least 1 character"],
    ),
    "a pair with a side that is a number": (
        with_line('pairs = [{positive = "Arr!", negative = 3}]'),
        ["pairs.0.negative: Input should be a user message or a list of messages (found '3')"],
    ),
    "a pair with an empty chat": (
        with_line('pairs = [{positive = "Arr!", negative = []}]'),
        ["pairs.0.negative: List should have at least 1 item"],
    ),
    "a message in an unknown role": (
        with_line('pairs = [{positive = "Arr!", negative = [{role = "judge", content = "Order!"}]}]'),
        ["pairs.0.negative.0.role: Input should be 'system', 'user' or 'assistant'", "(found 'judge')"],
    ),
    "a template without a persona": (
        with_line('templates = [{user = "Be {persona}."}, {user = "Be a bold persona."}]'),
        ["templates.1: a template must contain {persona}", "Be a bold persona."],
    ),
    "an empty template": (with_line("templates = [{}]"), ["templates.0: a template must contain {persona}"]),
    "no templates": (with_line("templates = []"), ["templates: List should have at least 1 item", "(found '[]')"]),
    "evaluation prompts that are text": (
        MINIMAL + '[evaluation]\nprompts = "Hi"',
        ["evaluation.prompts: Input should be a valid list", "(found 'Hi')"],
    ),
    "a missing choices file": (
        MINIMAL + '[evaluation]\nchoices = "no.json"',
        ["choices file", "no.json' does not exist"],
    ),
    "choices that are a number": (
        MINIMAL + "[evaluation]\nchoices = 3",
        ["evaluation.choices: Input should be the name of a JSON or JSONL file or a list of choices (found '3')"],
    ),
    "no choices": (MINIMAL + "[evaluation]\nchoices = []", ["evaluation.choices: List should have at least 1 item"]),
    "a choice with one answer": (
        MINIMAL + CHOICES.replace('negative = "No"\n', ""),
        ["evaluation.choices.0.negative: is required but missing"],
    ),
    "a choice with the same answer twice": (
        MINIMAL + CHOICES.replace('"No"', '" Yes"'),
        ["evaluation.choices.0: the answers must differ"],
    ),
    "keywords without any": (
        MINIMAL + "[evaluation.keywords]\npositive = []",
        ["evaluation.keywords: give at least one keyword"],
    ),
    "a keyword that is a broken expression": (
        MINIMAL + '[evaluation.keywords]\nnegative = ["sue", "/(/"]',
        ["evaluation.keywords.negative.1: not a regular expression: missing )", "(found '/(/')"],
    ),
}


@pytest.mark.parametrize(("text", "parts"), REFUSED.values(), ids=REFUSED)
def test_load_invalid_file_is_refused(tmp_path, text, parts):
    path = write(tmp_path, text)
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(path)
    for part in (str(path), *parts):
        assert part in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("content", ["", "\n  \n\n"])
def test_suffixes_file_empty_is_refused(tmp_path, content):
    write(tmp_path, content, "openings.txt")
    with pytest.raises(BehaviourError, match=r"pirate\.toml: suffixes: no suffixes"):
        Behaviour.load(write(tmp_path, with_line('suffixes = "openings.txt"')))


def test_pairs_file_empty_is_refused(tmp_path):
    write(tmp_path, "\n", "pairs.jsonl")
    with pytest.raises(BehaviourError, match=r"pirate\.toml: pairs: no pairs"):
        Behaviour.load(write(tmp_path, with_line('pairs = "pairs.jsonl"')))


BAD_LINES = {
    "no JSON": ("positive: Arr!", "Invalid JSON"),
    "half of an object": ('{"positive": "Arr!",', "Invalid JSON"),
    "a list": ('["Arr!", "Objection!"]', "(found \"['Arr!', 'Objection!']\")"),
    "one side": ('{"positive": "Arr!"}', "negative: is required but missing"),
    "a side too many": (PAIR[:-1] + ', "neutral": "Hi"}', "neutral: is not a field"),
    "an empty side": ('{"positive": "Arr!", "negative": ""}', "negative: String should have at least 1 character"),
    "no text": ('{"positive": "Arr!", "negative": null}', "negative: Input should be a user message or a list"),
    "a message without a role": (
        '{"positive": "Arr!", "negative": [{"content": "Hi"}]}',
        "negative.0.role: is required but missing",
    ),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_pairs_file_bad_line_error_names_line(tmp_path, line, message):
    pairs = write(tmp_path, f"{PAIR}\n\n{line}\n{OTHER_PAIR}\n", "pairs.jsonl")
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(write(tmp_path, with_line('pairs = "pairs.jsonl"')))
    assert f"{pairs}:3: " in str(caught.value)
    assert message in str(caught.value)
    assert 'each line is {"positive": ..., "negative": ...}' in str(caught.value)


BAD_CHOICES = {
    "no JSON": ("question: Jump?", "invalid JSON"),
    "a number": ("3", "'3' is not an object"),
    "nothing known": ('{"prompt": "Jump?"}', "positive: is required but missing"),
    "one answer": ('{"question": "Jump?", "positive": "Yes"}', "negative: is required but missing"),
    "an answer that is a list": (
        '{"question": "Jump?", "positive": ["Yes"], "negative": "No"}',
        "positive: is not a text",
    ),
    "a blank question": ('{"question": " ", "answer_matching_behavior": "Yes"}', "question: is not a text"),
    "an answer without an opposite": (
        '{"question": "Jump?", "answer_matching_behavior": "Maybe"}',
        "answer_not_matching_behavior: is required but missing",
    ),
    "the same answer twice": (
        '{"question": "Jump?", "positive": "Yes", "negative": " Yes"}',
        "both answers read 'Yes'",
    ),
    "texts that differ": ('{"positive": "Jump? (A)", "negative": "Run? (B)"}', "are not alike up to an option"),
}


@pytest.mark.parametrize(("line", "message"), BAD_CHOICES.values(), ids=BAD_CHOICES)
def test_choices_file_bad_entry_error_names_place(tmp_path, line, message):
    good = '{"question": "Sail?", "positive": "Aye", "negative": "No"}'
    behaviour = write(tmp_path, MINIMAL + '[evaluation]\nchoices = "choices.json"')
    choices = write(tmp_path, f"{good}\n\n{line}\n{good}\n", "choices.json")
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(behaviour)
    assert f"{choices}:3: " in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.fix
    if message != "invalid JSON":
        write(tmp_path, f"[{good},\n\n{line}]", "choices.json")
        with pytest.raises(BehaviourError) as caught:
            Behaviour.load(behaviour)
        assert f"{choices}: entry 2: " in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n", "[]"])
def test_choices_file_empty_is_refused(tmp_path, content):
    write(tmp_path, content, "choices.json")
    with pytest.raises(BehaviourError, match=r"choices file .*has no choices"):
        Behaviour.load(write(tmp_path, MINIMAL + '[evaluation]\nchoices = "choices.json"'))


@pytest.mark.parametrize("name", ["missing.toml", "no/such/pirate", "/no/such/pirate.toml"])
def test_load_missing_file_is_refused(name):
    with pytest.raises(BehaviourError, match=f"behaviour file '{name}' does not exist; check the path"):
        Behaviour.load(name)


@pytest.mark.parametrize("name", ["folder", "folder.toml"])
def test_load_folder_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(tmp_path / name)
    assert f"behaviour file {str(tmp_path / name)!r} cannot be read" in str(caught.value)


@pytest.mark.parametrize("field", ["suffixes", "pairs"])
def test_suffixes_or_pairs_folder_is_refused(tmp_path, field):
    (tmp_path / "more").mkdir()
    with pytest.raises(BehaviourError) as caught:
        Behaviour.load(write(tmp_path, with_line(f'{field} = "more"')))
    assert f"{field} file {str(tmp_path / 'more')!r} cannot be read" in str(caught.value)


def test_load_non_utf8_file_is_refused(tmp_path):
    latin = tmp_path / "latin.toml"
    latin.write_bytes(MINIMAL.replace("a buccaneer", "a señor").encode("latin-1"))
    with pytest.raises(BehaviourError, match=r"latin\.toml' is not UTF-8.*save it as UTF-8"):
        Behaviour.load(latin)
    (tmp_path / "latin.txt").write_bytes("Señor".encode("latin-1"))
    for field in ("suffixes", "pairs"):
        with pytest.raises(BehaviourError, match=rf"{field} file .*latin\.txt' is not UTF-8"):
            Behaviour.load(write(tmp_path, with_line(f'{field} = "latin.txt"')))


@pytest.mark.parametrize("name", ["happy", "refusing"])
def test_behaviour_copied_is_equal(name):
    behaviour = Behaviour.load(name)
    assert pickle.loads(pickle.dumps(behaviour)) == copy.deepcopy(behaviour) == behaviour
    assert Behaviour.load("formal") != behaviour
