"""Claims on how much hangs on our choices: specifications, the set of neurons, a forecast.

Written down before lab 16 had been run on any trained model, so no number that they are judged by had
been computed. What had been seen: labs 1 to 12 of the study, and with them the success of steering that
the forecast is held against and, in lab 10, what single choices do to it on the tasks' first seeds.
Afterwards the lab was tried on one run (inference, seed 26), and its grid changed: at multiples of 1 and more
no cell of that run stayed within the limit, so that every specification that keeps it turned nothing. The
claims, their thresholds and margins stayed as they were.
"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, POINTS
from memgen.claims.ledger import Claim
from memgen.claims.quantities import multiverse
from memgen.neurons.selection import TOP_SHARE

MOST = 0.5  # share of the specifications that is most of them
SAME = 0.25  # Jaccard, above chance, from which two sets of neurons count as much the same
ORDERED = 0.3  # rank correlation from which an order is of use

MULTIVERSE = (
    Claim(
        "specifications",
        "steering in most specifications",
        "That steering does more than what it is held against does not hang on how it is measured: it"
        " holds in most of the ways that could have been chosen.",
        OURS,
        "share of the specifications of lab 16 whose effect on test keys has an interval over keys above"
        f" 0, mean of both directions: interval above {MOST}",
        multiverse.LAB,
        multiverse.specifications,
        threshold=MOST,
        margin=POINTS,
    ),
    Claim(
        "stable_neurons",
        "the same neurons on other keys",
        "The top neurons are much the same when other train keys find them.",
        OURS,
        f"Jaccard of the top {TOP_SHARE:.0%} by |rho| of two halves of the train keys, mean of many"
        " halvings, less that of random sets with as many in each layer: interval above 0",
        multiverse.LAB,
        multiverse.stability,
        margin=SAME,
    ),
    Claim(
        "forecast",
        "steering can be predicted",
        "How well steering works on a task can be predicted from the train pairs alone: it works better"
        " where their differences point one way.",
        OURS,
        "Spearman's correlation over the tasks, in every seed, of the mean cosine between differences of"
        " train pairs of different keys (lab 16) with success on test keys, mean of both directions:"
        " interval above 0",
        multiverse.LAB,
        multiverse.forecast,
        margin=ORDERED,
        cases=multiverse.over_tasks,
    ),
)
