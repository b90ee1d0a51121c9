"""Claims on prediction: is the behaviour known beforehand, and beyond what the prompt gives away?"""

from __future__ import annotations

from memgen.claims.catalogue.sources import OURS, PAPER, POINTS, REVIEWERS
from memgen.claims.ledger import Claim
from memgen.claims.quantities import prediction
from memgen.stats.auc import CHANCE

SEPARATES = CHANCE + POINTS  # AUC from which a layer separates the behaviours


def _beyond(baseline: str, name: str, text: str, source: str, test: str) -> Claim:
    return Claim(
        f"beyond_{name.split()[-1]}",
        name,
        text,
        source,
        f"AUC of the probe less that of {test} (or 0.5), same prompts: interval above 0",
        "05_prediction",
        lambda e, t: prediction.beyond(e, t, baseline),
        margin=POINTS,
    )


PREDICTION = (
    Claim(
        "predictable",
        "predictable",
        "The behaviour can be predicted before the answer is written.",
        PAPER,
        "AUC of the best layer's probe on test keys: interval above 0.5",
        "05_prediction",
        prediction.auc,
        threshold=CHANCE,
        margin=POINTS,
    ),
    Claim(
        "deeper_probes",
        "deeper probes predict better",
        "Probes of deeper layers predict it better.",
        PAPER,
        "AUC of the last layer's probe less that of the first's: interval above 0",
        "05_prediction",
        prediction.deeper,
        margin=POINTS,
        corrected="seeds that agree exactly get a wider interval: towards open",
    ),
    Claim(
        "last_layer",
        "last layer adds more for addition",
        "The last layer adds more to prediction in tagged addition than in inference.",
        OURS,
        "what the last layer's AUC adds to the mean of those before: of tagged addition less that"
        " of inference: interval above 0",
        "05_prediction",
        prediction.last_layer,
        margin=0.10,
        cases=prediction.tagged_against_inference,
        corrected="seeds that agree exactly get a wider interval: towards open",
    ),
    Claim(
        "last_layer_only",
        "last layer for addition only",
        "The last layer separates the behaviours in addition, and not in inference.",
        PAPER,
        f"the smaller of two distances: by how much the last layer's AUC lies above"
        f" {SEPARATES:.2f} in tagged addition, and below it in inference: interval above 0",
        "05_prediction",
        lambda e, t: prediction.last_layer_only(e, t, SEPARATES),
        cases=prediction.tagged_against_inference,
        corrected="added, in the paper's words: against the paper where inference is separated, too",
    ),
    _beyond(
        "chosen_baseline",
        "beyond the words",
        "Hidden states predict it better than anything that can be read from the prompt alone.",
        REVIEWERS,
        "the strongest baseline without this model's states, as chosen on train keys",
    ),
    _beyond(
        "nearest_setting",
        "beyond the setting",
        "They predict it better than the prompt's nearness to settings that its key was trained in.",
        OURS,
        "that nearness, without a model",
    ),
    _beyond(
        "base_probe",
        "beyond the base",
        "They predict it better than the states of the base, which never saw a key.",
        OURS,
        "the same probe on the base's states",
    ),
    Claim(
        "before_answer",
        "before the answer is read",
        "It can be predicted in layers where the answer itself cannot be read yet.",
        OURS,
        "AUC of the probe less that of the strongest baseline (or 0.5) in the last layer before the"
        " logit lens reads the answer on train keys, in seeds whose lens there cannot be told from"
        " chance on test keys: interval above 0",
        "09_confounds",
        prediction.before_the_answer,
        margin=POINTS,
        corrected="seeds left out whose lens reads the answer: fewer seeds, towards open",
    ),
)
