import json

import pandas as pd
import pytest

from press.price import numerics_price


def test_the_ratio_is_of_all_seconds_and_training_apart(tmp_path):
    assert numerics_price(tmp_path) is None
    folder = tmp_path / "data" / "reference" / "numerics"
    folder.mkdir(parents=True)
    rows = [
        ("native", "inference", "00_base", 10.0),
        ("native", "inference", "02_training", 30.0),
        ("native", "inference", "06_intervention", 60.0),
        ("portable", "inference", "00_base", 20.0),
        ("portable", "inference", "02_training", 70.0),
        ("portable", "inference", "06_intervention", 60.0),
    ]
    table = pd.DataFrame(rows, columns=["numerics", "task", "lab", "cpu_seconds"])
    table.to_csv(folder / "results.csv", index=False)
    about = {"command": "this", "machine": {"cores": 2, "processor": "That"}}
    (folder / "about.json").write_text(json.dumps(about))
    found = numerics_price(tmp_path)
    assert (found.ratio, found.training, found.others) == pytest.approx((1.5, 2.25, 1.0))
    assert (found.n, found.command, found.machine) == (3, "this", "2 cores of That")
