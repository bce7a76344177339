"""Settings of a server, and the limits of what a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PORT = 8421

# Limits of the API's schema: they bound the work of a request before any of it begins.
MAX_N = 16  # answers to one prompt
MAX_STOPS = 16  # stop strings of a request
MAX_PROMPTS = 32  # prompts of one request for completions
MAX_ANSWERS = 64  # answers of one request: its prompts times n
MAX_MESSAGES = 1_024  # of a chat
MAX_PARTS = 256  # of a message
MAX_TOOLS = 64
MAX_TEXT = 1_000_000  # characters of one text
MAX_BIASES = 1_024  # tokens with a changed logit
MAX_TERMS = 32  # of a steering; to normalise hundreds takes seconds
MAX_STEERING_TEXT = 4_096  # characters of the text form
MAX_READINGS = 16  # vectors that are read at every token
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of a server.

    Attributes:
        model: Name under which the model is served.
        host: Address to listen on.
        port: Port to listen on.
        vectors: Folder of the vectors that requests may name; the user's vectors folder if not given.
        presets: Folder of presets; the user's presets folder if not given.
        answer_tokens: Upper bound on an answer whose request gives none.
        max_answer_tokens: Upper bound on any answer; requests that ask for more get this.
        temperature: Of requests that give none; 1 as in OpenAI's API.
        max_body_bytes: Of a request.
        max_upload_bytes: Of a file that is sent to the server.
        body_seconds: Seconds that a body may take to arrive.
        allowed_hosts: Further host names under which the server may be asked.
        allowed_origins: Web pages that may ask, as ``https://example.org``.
        open_metrics: Whether metrics are told without a key.
        requests_per_minute: Of each key; None sets no bound.
        tokens_per_minute: Of each key, in prompts and answers; None sets no bound.
        answers: Answers in the engine at once.
        waiting: Requests that may wait for the engine.
        log_requests: Whether each request is logged, without what it says.
        log_prompts: Whether logs have what requests and answers say.
        run_log: SQLite file of all requests.
        deadline: Seconds after which an answer is given up; None never.
        drain: Seconds that answers have to end once the server is stopped.
    """

    model: str
    host: str = HOST
    port: int = PORT
    vectors: Path | None = None
    presets: Path | None = None
    answer_tokens: int = 512
    max_answer_tokens: int = 4_096
    temperature: float = 1.0
    max_body_bytes: int = 4 * 1024**2
    max_upload_bytes: int = 64 * 1024**2
    body_seconds: float = 30.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    open_metrics: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    answers: int = 64
    waiting: int = 2_000
    log_requests: bool = False
    log_prompts: bool = False
    run_log: Path | None = None
    deadline: float | None = 600.0
    drain: float = 30.0


def served_name(name: str) -> str:
    """Return the name under which a model is served: the last part of its hub id or path.

    Example:
        >>> served_name("HuggingFaceTB/SmolLM2-360M-Instruct"), served_name("/models/tiny.gguf")
        ('SmolLM2-360M-Instruct', 'tiny')
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    return last.replace(":", "-") or "model"
