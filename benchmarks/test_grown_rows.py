"""Grown rows lie as the real ones do that they are grown from."""

import numpy as np
import pytest

from .grown_rows import GrownRows


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """Smooth images in 12 of 24 dimensions, which differ from each other more in some than in others."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(30, 4, 4, 12)) * np.geomspace(3, 0.3, 12)
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2) + 0.3 * rng.normal(size=(30, 16, 16, 12))
    return (smooth.reshape(30, 256, 12) @ rng.normal(size=(12, 24))).astype(np.float32)


def nearest(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return ((queries[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2).min(axis=1)


def test_an_image_depends_on_the_seed_and_its_number_only(real: np.ndarray) -> None:
    grown = GrownRows(real, seed=1)
    third = [grown.image(number) for number in (0, 1, 2)][2]
    assert third.shape == (256, 24)
    assert third.dtype == np.float32
    np.testing.assert_array_equal(GrownRows(real, seed=1).image(2), third)
    assert (GrownRows(real, seed=2).image(2) != third).any()
    assert (grown.image(1) != third).any()


def test_rows_spread_and_neighbour_as_real_ones_do(real: np.ndarray) -> None:
    known, held_out = real[:24], real[24:, ::8].reshape(-1, 24)
    grown = np.stack(list(GrownRows(known).images(24)))
    spectra = [np.linalg.eigvalsh(np.cov(rows.reshape(-1, 24).T))[::-1] for rows in (known, grown)]
    np.testing.assert_allclose(spectra[1][:12], spectra[0][:12], rtol=0.3)
    assert spectra[1][12:].max() < 1e-3 * spectra[1][0], "no direction that real rows do not have"
    to_real, to_grown = (
        np.quantile(nearest(held_out, rows.reshape(-1, 24)), [0.1, 0.5, 0.9]) for rows in (known, grown)
    )
    np.testing.assert_allclose(to_grown, to_real, rtol=0.5)
