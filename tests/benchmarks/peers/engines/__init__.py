"""One module an engine, each with a class `Engine`: how a library's users would do it.

    Engine(scenario)            load the model
    .capture() -> [n, L, d]     states after every block at the last position of `scenario.ids`
    .sweep(positions) -> [C, P] codes of the greedy answers of `scenario.swept` under every cell
    (None from either: there is nothing to compare)
    NOTES                       what a reader of the numbers has to know, by what was done
    COMPARED                    how many layers' states are after the block (None: all)

Engines run in environments of their own, without `memgen`.
"""
