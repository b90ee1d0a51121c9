"""The shift of a cell: sign of rho, size of NMD."""

import numpy as np
import pytest

from memgen.steering.cells import shift_vector


def test_shift_has_the_sign_of_rho_and_the_size_of_nmd():
    shift = shift_vector(
        np.array([[2.0, -3, 4]]), np.array([[-0.1, 0.2, 0.3]]), np.array([[True, True, False]])
    )
    assert shift.tolist() == [[-2, 3, 0]]


def test_maps_of_another_shape_are_refused():
    zero = np.zeros((3, 16))
    with pytest.raises(ValueError, match="shapes differ"):
        shift_vector(zero, zero, zero[:1])
