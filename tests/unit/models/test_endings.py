"""Where an answer in free text ends: held against the rule on strings."""

import torch

from memgen.models import endings
from memgen.models.endings import agree, ahead, ends_of, padded
from memgen.models.tokenizer import build_tokenizer
from memgen.tasks import Inference

PIECES = [" To", "kyo", " Lis", "bon", ".", "\n", "-based", "'s", "’s", "7", " 7", "é", ",", "_"]
END = 1


class Open(Inference):
    open_ended = True


def test_a_token_ends_an_answer_if_it_begins_a_new_word():
    tokenizer = build_tokenizer(PIECES)
    ends = ends_of(tokenizer, Open(3, 0))
    ending = {tokenizer.decode([i]) for i in ends.nonzero()[:, 0].tolist()}
    assert ending - set(tokenizer.all_special_tokens) == {" To", " Lis", ".", "\n", " 7", ",", "_"}
    assert {"<eos>", "<pad>"} <= ending
    assert ends_of(tokenizer, Inference(3, 0)) is None


def test_answers_agree_up_to_their_ends():
    ends = torch.tensor([False, True, True, False, False])
    wanted = torch.tensor([[3, END, -1]]).repeat(4, 1)
    written = torch.tensor([[3, END, -1], [3, 2, 4], [3, 4, 2], [2, 2, 2]])
    assert agree(wanted, written, END, ends).all(1).tolist() == [True, True, False, False]
    assert agree(wanted, written, END, None).all(1).tolist() == [True, False, False, False]


def test_no_word_ends_an_answer_that_has_not_begun():
    ends = torch.tensor([False, True, True])
    empty, written = torch.tensor([[END, -1]]), torch.tensor([[2, 2]])
    assert not agree(empty, written, END, ends).all()
    assert agree(empty[:, :1], written[:, :1], END, ends, first=1).all()


def test_the_best_of_the_ends_leads_the_best_of_the_others():
    ends = torch.tensor([False, True, True, False])
    logits = torch.tensor([[1.0, 0.0, 5.0, 3.0], [4.0, 0.0, 1.0, 3.0]])
    assert ahead(logits, torch.tensor([[END, 3], [END, -1]]), END, ends).tolist() == [
        [2.0, -2.0],
        [-3.0, float("inf")],
    ]
    assert ahead(logits, torch.tensor([[END], [END]]), END, None).tolist() == [[-5.0], [-4.0]]


def test_tokens_that_no_text_stands_for_end_an_answer():
    assert padded(torch.tensor([False]), 3).tolist() == [False, True, True]


def test_a_large_vocabulary_is_looked_at_a_few_rows_at_a_time(monkeypatch):
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    ends, wanted = torch.arange(11) % 3 == 0, torch.tensor([[END, 4]]).repeat(7, 1)
    whole = ahead(logits, wanted, END, ends)
    rest = logits.masked_fill(ends, -torch.inf).amax(1)
    assert torch.equal(whole[:, 0], logits[:, ends].amax(1) - rest)
    monkeypatch.setattr(endings, "SCORES", 25)
    assert torch.equal(ahead(logits, wanted, END, ends), whole)
