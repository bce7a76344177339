"""Script that compiles a grammar from standard input within limits, and writes what is wrong with it.

A few short grammars take gigabytes and minutes to compile, whatever limits the compiler has (``multipleOf`` of two
large primes, some hundred ``patternProperties``). Only a process can be stopped there. It needs no tokenizer: single
bytes build the same automata. Arguments: CPU seconds, bytes of memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


class ByteTokens:
    """Tokenizer with a token for each byte, as llguidance takes it."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> Sequence[int]:
        """Return the bytes."""
        return list(text)


def main() -> None:
    """Compile the grammar and compute the first mask."""
    seconds, memory = map(int, sys.argv[1:])
    try:
        import resource
    except ImportError:  # not on Windows; the caller's timeout is then the only limit
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

    matcher = LLMatcher(
        LLTokenizer(TokenizerWrapper(ByteTokens())),
        sys.stdin.buffer.read().decode(),
        limits=LLParserLimits(verbose_errors=False),
        log_level=0,
    )
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.buffer.write(matcher.get_error().encode())


if __name__ == "__main__":
    main()
