"""Which keys a model knows: planted, as what a random model writes."""

from capitals import PLACES, Capitals, asked_model
from memgen.models.generate import answer
from memgen.models.known import known_keys
from memgen.tasks.given import begins

SEED = 1  # of a model that says the same in both wordings of some keys, and of some not


def test_a_key_is_known_if_every_wording_is_answered_rightly():
    model, tokenizer = asked_model(SEED)
    said = {
        key: answer(model, tokenizer, [row.prompt for row in rows], 2)
        for key, rows in Capitals(3, 0).asked().items()
    }
    first = {key: tokenizer(texts[0])["input_ids"][0] for key, texts in said.items()}
    planted = {f" {key}": tokenizer.decode([token]) for key, token in first.items()}
    known, n = known_keys(
        model, tokenizer, type("Planted", (Capitals,), {"answers": planted})(3, 0)
    )
    assert n == len(PLACES)
    assert known == [
        key
        for key, texts in said.items()
        if all(begins("x" + text, "x" + planted[f" {key}"]) for text in texts)
    ]
    assert 0 < len(known) < n  # else nothing is compared
