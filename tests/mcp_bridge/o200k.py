"""What does a text cost, truly? Counted with the vocabulary o200k_base, which the package `bpe-openai` carries in itself."""

from functools import cache

import bpe_openai


@cache
def _encoding() -> bpe_openai.Encoding:
    return bpe_openai.get_encoding("o200k_base")


def o200k(text: str) -> int:
    """Tokens of a text."""
    return len(_encoding().encode_ordinary(text))
