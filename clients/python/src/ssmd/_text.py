# SPDX-License-Identifier: Apache-2.0
"""Text is the client's: tokenizer.json, as the package tokenizers reads it (`pip install ssmd[text]`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

from .values import Token

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenizerLike: TypeAlias = "str | PathLike[str] | Tokenizer"


def load(tokenizer: TokenizerLike | None) -> Tokenizer | None:
    """From a tokenizer.json, unless it is one already."""
    if tokenizer is None:
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError("text needs the package tokenizers: pip install ssmd[text]") from None
    return tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.from_file(str(tokenizer))


def encode(tokenizer: Tokenizer | None, prompt: str | Sequence[int], is_first: bool) -> Sequence[int]:
    """Tokens of a prompt; what the tokenizer puts around a text goes around the first of a stream."""
    if not isinstance(prompt, str):
        return prompt
    if tokenizer is None:
        raise TypeError("the stream has no tokenizer: open it with tokenizer=, or give tokens")
    return tokenizer.encode(prompt, add_special_tokens=is_first).ids


def encode_stop(tokenizer: Tokenizer | None, stop: Iterable[int | str]) -> list[int]:
    """Stop tokens; words are names of single tokens, such as <|endoftext|>."""
    tokens = []
    for one in stop:
        token = one if not isinstance(one, str) else tokenizer.token_to_id(one) if tokenizer else None
        if token is None:
            raise ValueError(f"stop: {one!r} is not one token of the stream's tokenizer")
        tokens.append(token)
    return tokens


class Writing:
    """Text that grows token by token, by whole characters."""

    def __init__(self, tokenizer: Tokenizer | None, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        if tokenizer:
            from tokenizers.decoders import DecodeStream

            self._decoder = DecodeStream(ids=list(prompt), skip_special_tokens=True)

    def add(self, token: Token) -> Token:
        """The token with its text."""
        if not self._tokenizer:
            return token
        return replace(token, text=self._decoder.step(self._tokenizer, token.token) or "")
