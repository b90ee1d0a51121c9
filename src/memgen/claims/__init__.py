"""What is claimed, what it is computed from, and what the runs say: evidence, quantities, ledger."""
