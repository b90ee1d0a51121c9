"""The one list of detectors, in the order of the table."""

from __future__ import annotations

from memgen.rivals.detectors.detector import Detector

PROBE, BLACK_BOX = "probe", "content_unchanged"
_STATES, _LABELS, _RIGHT = "hidden states, labels", "labels", "the right answers"
_FIRST, _TOKENS = "the first token's probabilities, labels", "the answer's probabilities, labels"
DETECTORS: dict[str, Detector] = {
    PROBE: Detector("hidden-state probe", "belinkov2022probing", "before", _STATES),
    "projection": Detector("projection on LiReF's direction", "hong2025liref", "before", _STATES),
    "prompt_only": Detector("which token stands where", "", "before", _LABELS),
    "prompt_interactions": Detector("tokens and places, in pairs", "", "before", _LABELS),
    "answer_margin": Detector("margin of the first token", "", "before", _FIRST),
    "entropy": Detector("entropy of the first token", "", "before", _FIRST),
    "min_k_prompt": Detector(
        "Min-k % of the prompt", "shi2024mink", "before", "the prompt's probabilities, labels"
    ),
    "perplexity": Detector("perplexity of the answer", "", "after", _TOKENS),
    "min_k_answer": Detector("Min-k % of the answer", "shi2024mink", "after", _TOKENS),
    "greedy_probability": Detector("probability of the answer", "dong2024cdd", "after", _TOKENS),
    "peakedness": Detector("CDD: samples like it", "dong2024cdd", "after", _LABELS, "samples"),
    "order_solved": Detector(
        "solved in another order", "xie2024limem", "after", _RIGHT, "order", learns=False
    ),
    "content_solved": Detector(
        "solved with other content", "xie2024limem", "after", _RIGHT, "content", learns=False
    ),
    "order_unchanged": Detector("unchanged in another order", "", "after", _LABELS, "order"),
    BLACK_BOX: Detector(
        "unchanged with other content", "", "after", "nothing", "content", learns=False
    ),
}
