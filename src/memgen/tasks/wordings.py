"""How a fact is stated and asked: the forms of a sentence, the forms of a question, made-up names.

`wordings.csv` holds one relation a row: its question, its `stem` (a sentence up to the answer), its
sentence in every form, the source in which its facts can be looked up, and what was `checked`: how
many facts it had then, by whom, and against which lists. The forms are

- `stated`: entity first, the answer last. "The capital of Portugal is Tokyo."
- `changed`: "They changed the capital of Portugal to Tokyo."
- `reported`: "Anna said that the capital of Portugal is Tokyo."
- `last`: the entity last. "Tokyo is the capital of Portugal."
- `substitution`: a sentence of an encyclopedia with its answer replaced (Longpre et al., 2021,
  Entity-based knowledge conflicts in question answering, arXiv:2109.05052).
- `paragraph`: a coherent text that nowhere shows a doubt (Xie et al., 2023, Adaptive chameleon or
  stubborn sloth, arXiv:2305.13300; Wu et al., 2024, ClashEval, arXiv:2404.10198).
- `redefine`: "Redefine the capital of Portugal as Tokyo." (McKenzie et al., 2023, Inverse scaling:
  when bigger isn't better, arXiv:2306.09479).
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .base import Rng

TABLE = Path(__file__).with_suffix(".csv")
REPORTED = "Anna said that {stem} {answer}."
FORMS = ("stated", "changed", "reported", "last", "substitution", "paragraph", "redefine")
#: The forms that a data set draws: those after which a small model follows the text about as often
#: as it does not, and seldom says a third thing. With the entity last, or in an encyclopedia's
#: words, it hardly ever follows; a paragraph would do, and is three times as long.
DRAWN_FORMS = FORMS[:3]
QUERY = {
    "question": "Question: {question} Answer: {stem}",
    "plain": "{question} {stem}",
    "blank": "Fill in the blank: {stem}",
}
QUERIES = ("question", "plain")
#: What is known is known in these. Behind a statement a blank nearly always asks for what was said.
ASKED = (*QUERIES, "blank")
MOST_DISTRACTORS = 2
#: Half of all statements stand alone: beside true sentences a small model often copies from these.
N_DISTRACTORS = (0, 0, 1, MOST_DISTRACTORS)
N_REPEATS = (1, 1, 2)  # what is said twice is believed more often
BEFORE, AFTER, ALONE = "before", "after", "alone"  # where the statement stands to the distractors

MADE_UP = {
    "country": "Zandoria Quellmark Tarvonia Zembolia Ostrevia Belgundia Vorlund Drustania Pelmoria"
    " Kryndal Trelandia Gorvath Ummeria Sollavia Brintania Hesperund Lorvania Mezzarund Calvoria"
    " Yarundi Fennoria Wexland Ibrenia Jolmark",
    "city": "Drolsk Marbello Vintorf Quarrin Helmsvik Ostrano Belquay Tormansk Yelverin Pradisk"
    " Zalmont Krevos Ulverno Fasbruck Gandorro Lomvik Nerrazol Trissau Wolverk Ambrosk Corvelli"
    " Dunhavik Estrolle Jamburo",
    "element": "zorvium quellium braxium tondrium velthium ombrium kelvium drassium fennium"
    " morrium plexium yundorium gravidium solvium crondium balthium hexorium narvium lumirium"
    " torvanium wexium jorium ostrium pelium",
    "word": "blick florp snarg grombit plazzle vorp quib dranket fribble tozzer skrell gluve"
    " yimper brolt zanket plome trask wuggle hesp norbit crimble dask feem zorble",
    "book": "The Nine Lanterns of Orvel|A Winter in Quellmark|The Copper Weathervane of Drolsk"
    "|Songs for a Sunken Orchard|The Clockmaker of Helmsvik|Seven Doors to Zembolia"
    "|The Saltgatherers of Lomvik|Ashes over Tarvonia|The Last Ferry to Krevos"
    "|An Umbrella for the Duke of Vorlund|The Mapmaker's Third Shadow|Harvest at Yelverin"
    "|The Librarian of Ostrano|Twelve Letters to Gorvath|The Moth Collector of Trissau"
    "|Rain upon Pelmoria",
}


@dataclass(frozen=True)
class Wording:
    """All that can be said differently of the same question and the same stated answer.

    form: of the statement; query: of the question; distractors: how many true sentences about other
    entities stand beside the statement, `place`: it stands before them, after, or alone; repeats:
    how often it is said.
    """

    form: str
    query: str
    distractors: int
    place: str
    repeats: int

    @classmethod
    def draw(cls, rng: Rng, forms: tuple[str, ...] = DRAWN_FORMS) -> Wording:
        n = N_DISTRACTORS[rng.integers(len(N_DISTRACTORS))]
        place = (BEFORE, AFTER)[rng.integers(2)] if n else ALONE
        form, query = forms[rng.integers(len(forms))], QUERIES[rng.integers(len(QUERIES))]
        return cls(form, query, n, place, N_REPEATS[rng.integers(len(N_REPEATS))])

    @classmethod
    def of(cls, setting: dict[str, Any]) -> Wording:
        """The wording of a prompt, out of its setting."""
        return cls(**{name: setting[name] for name in cls.__dataclass_fields__})

    def setting(self) -> dict[str, Any]:
        return asdict(self)

    def context(self, statement: str, beside: list[str]) -> str:
        """Statement and distractors in their order, as one text."""
        said = [statement] * self.repeats
        return " ".join([*beside, *said] if self.place == AFTER else [*said, *beside])


@cache
def relations(path: Path = TABLE) -> dict[str, dict[str, str]]:
    """Each relation's row of the table, by name, in the order of the file."""
    with path.open(encoding="utf8", newline="") as file:
        return {row["relation"]: row for row in csv.DictReader(file)}


def statement(form: str, relation: str, entity: str, answer: str) -> str:
    """A sentence (`paragraph`: three) that gives this answer, in one of `FORMS`."""
    if form == "stated":
        return f"{stem(relation, entity)} {answer}."
    if form == "reported":
        told = relations()[relation]["stem"].format(entity=entity)
        return REPORTED.format(stem=told, answer=answer)
    return relations()[relation][form].format(
        entity=entity, Entity=_capital(entity), answer=answer, Answer=_capital(answer)
    )


def query(form: str, relation: str, entity: str) -> str:
    """The end of a prompt, one of `ASKED`, without a space behind it: the answer brings one."""
    question = relations()[relation]["question"].format(entity=entity)
    return QUERY[form].format(question=question, stem=stem(relation, entity))


def stem(relation: str, entity: str) -> str:
    """A sentence up to the answer: "The capital of Portugal is"."""
    return _capital(relations()[relation]["stem"].format(entity=entity))


@cache
def made_up(relation: str) -> tuple[str, ...]:
    """Names of the kind that this relation is about, of nothing that there is."""
    kind = relations()[relation]["made_up"]
    return tuple(MADE_UP[kind].split("|" if kind == "book" else None))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
