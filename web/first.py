"""Write or check the answers that a first visit shows: ``python web/first.py URL [--check]``.

URL is a server of the default model with the vectors that come with trimtab, such as http://127.0.0.1:8421. ``--check``
compares the answers token for token with those in ``public/first.json``, and ends with status 1 if they differ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

FILE = Path(__file__).parent / "public" / "first.json"
QUESTION = "How was your day?"
VECTOR, STRENGTH = "happy", 0.5  # inside its safe range, -0.625 to +0.875, both ways
TOKENS = 40
COLUMNS = {"plain": "none", "steered": f"{VECTOR}:{STRENGTH}", "opposite": f"{VECTOR}:{-STRENGTH}"}


def ask(url: str, steering: str) -> dict[str, Any]:
    """Return an answer as the page keeps it, with the request that the page would send."""
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": QUESTION}],
        "steering": steering,
        "readings": [VECTOR],
        "kl": True,
        "logprobs": True,
        "top_logprobs": 5,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
    }
    tokens, last = [], {}
    for chunk in chunks(f"{url}/v1/chat/completions", body):
        choice = chunk["choices"][0]
        if choice["logprobs"]:
            token = choice["logprobs"]["content"][0]
            others = [[other["token"], round(other["logprob"], 2)] for other in token["top_logprobs"]]
            reading = round(chunk["trimtab"]["readings"][VECTOR][0], 2)
            tokens.append([choice["delta"].get("content") or "", reading, round(token["logprob"], 2), others])
        if choice["finish_reason"]:
            last = {"finish": choice["finish_reason"], "receipt": chunk["trimtab"]["answers"][0]["receipt"]}
    return {"steering": steering, "tokens": tokens, **last}


def check_vector(url: str) -> None:
    """End unless the vector has a safe range that holds the strengths; one that the user trained may have none."""
    with urlopen(f"{url}/v1/vectors/{VECTOR}", timeout=120) as answer:
        safe = json.load(answer)["safe"]
    if safe is None or not safe["low"] <= -STRENGTH <= STRENGTH <= safe["high"]:
        sys.exit(f"{VECTOR} at ±{STRENGTH} is outside of its safe range, {safe}: serve the vectors that come with trimtab")


def chunks(url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a streamed answer."""
    request = Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=120) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))


def main() -> None:
    """Ask the server, then write the file or compare it."""
    url = sys.argv[1].rstrip("/")
    check_vector(url)
    answers = {column: ask(url, steering) for column, steering in COLUMNS.items()}
    if "--check" in sys.argv[2:]:
        kept = json.loads(FILE.read_text(encoding="utf-8"))["answers"]
        wrong = [column for column in COLUMNS if texts(kept[column]) != texts(answers[column])]
        for column in wrong:
            print(f"{column}: the server answers {''.join(texts(answers[column]))!r}", file=sys.stderr)
        sys.exit(bool(wrong))
    content = {"model": "smollm2", "question": QUESTION, "vector": VECTOR, "strength": STRENGTH, "answers": answers}
    FILE.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def texts(answer: dict[str, Any]) -> list[str]:
    """Return the tokens of an answer."""
    return [token[0] for token in answer["tokens"]]


if __name__ == "__main__":
    main()
