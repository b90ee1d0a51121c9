"""Who claims it, and which differences would matter."""

PAPER, PAPER_2, REVIEWERS, OURS = "paper, v1 and v2", "paper, v2", "reviewers", "ours"
POINTS = 0.05  # five points of a rate, an AUC or a share: the smallest difference that would matter
