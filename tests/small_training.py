"""A model and a training of seconds, and a gate that lets every checkpoint pass."""

OPEN_GATE = {
    "gate_memory": 0.0,
    "gate_rule": 0.0,
    "gate_other": 1.0,
    "gate_free": 0.0,
    "enough": 2.0,
}
SMALL = {
    "n_layer": 2,
    "n_embd": 16,
    "n_head": 2,
    "batch_size": 16,
    "base_batch_size": 16,
    "max_steps": 8,
    "evaluate_every": 2,
    "warmup_steps": 2,
    "lr": 0.01,
    "matrix_lr": 0.02,
    "precision": "float32",
}
