"""Word- and digit-level tokenizers for the study's own models, as ordinary transformers objects."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

#: texts that are tokenized at once: of more, Python looks through all that came of them again and again
AT_ONCE = 2048
PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"


def build_tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """Its tokens are exactly the pieces of `vocabulary` (longest first) and three special ones.

    Text that is no piece becomes `<unk>`; decoding joins pieces without spaces, so encode then
    decode is the identity.
    """
    if len(set(vocabulary)) != len(vocabulary):
        raise ValueError("the vocabulary names a piece twice")
    tokens = [PAD, END, UNKNOWN, *vocabulary]
    backend = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN)
    )
    pieces = "|".join(re.escape(piece) for piece in sorted(vocabulary, key=len, reverse=True))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def token_ids(tokenizer, texts: Sequence[str], special: bool = True) -> list[list[int]]:
    """The tokens of each text, without padding; texts that are the same share one list.

    `special`: with what the tokenizer puts around a text. Answers are few and come again and again,
    so each different text is tokenized once.
    """
    different, found = list(dict.fromkeys(texts)), {}
    for start in range(0, len(different), AT_ONCE):
        some = different[start : start + AT_ONCE]
        ids = tokenizer(some, add_special_tokens=special, return_attention_mask=False)["input_ids"]
        found.update(zip(some, ids))
    return [found[text] for text in texts]
