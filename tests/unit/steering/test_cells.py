"""The shift of a cell: sign of rho, size of NMD."""

import numpy as np
import pytest

from memgen.steering.cells import cumulative_norm, shift_vector


def test_shift_has_the_sign_of_rho_and_the_size_of_nmd():
    shift = shift_vector(
        np.array([[2.0, -3, 4]]), np.array([[-0.1, 0.2, 0.3]]), np.array([[True, True, False]])
    )
    assert shift.tolist() == [[-2, 3, 0]]


def test_maps_of_another_shape_are_refused():
    zero = np.zeros((3, 16))
    with pytest.raises(ValueError, match="shapes differ"):
        shift_vector(zero, zero, zero[:1])


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_layers_are_summed_in_double_precision(kind):
    """Half precision ends at 65504 and has steps of 32 before that."""
    shift = np.zeros((4, 3), dtype=kind)
    shift[:, 1] = [60000, 60000, -60000, 1]
    assert cumulative_norm(shift) == 60001


def test_the_cumulative_norm_is_that_of_the_sum_and_not_of_the_layers():
    assert cumulative_norm(np.array([[3.0, 0.0], [0.0, 4.0]])) == pytest.approx(5)
    assert cumulative_norm(np.array([[3.0, 0.0], [-3.0, 0.0]])) == 0
