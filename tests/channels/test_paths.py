"""`frequency_response` against QuaDRiGa's own, a direct double sum, and mutants that must fail."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import CsiAuditError, paths, to_angular_delay
from channels.paths import energy_beyond_window, frequency_response, window_caution

BANDWIDTH_HZ = 10e6
N_SUB = 32
MOST_ERROR = 1e-5  # relative, of the worst user

Transform = Callable[[Tensor, Tensor], Tensor]


def respond(coeff: Tensor, delay_s: Tensor) -> Tensor:
    return frequency_response(coeff, delay_s, bandwidth_hz=BANDWIDTH_HZ, n_sub=N_SUB)


def double_sum(coeff: np.ndarray, delay_s: np.ndarray, bandwidth_hz: float, n: int) -> np.ndarray:
    """sum_p coeff_p exp(-j 2 pi f_k tau_p), f_k = k bandwidth/n, in complex128, as written."""
    frequency_hz = np.arange(n) * bandwidth_hz / n
    phase = 2 * np.pi * delay_s.astype(np.float64)[..., None] * frequency_hz
    response: np.ndarray = (coeff.astype(np.complex128)[..., None] * np.exp(-1j * phase)).sum(-2)
    return response


def draw(
    n: int = 5, n_rx: int = 2, n_tx: int = 8, n_path: int = 12, *, per_path: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Paths as QuaDRiGa has them: float32, late ones weaker, delays of the antennas ns apart."""
    rng = np.random.default_rng(n * n_rx * n_tx * n_path)
    shape = (n, n_rx, n_tx, n_path)
    coeff = 1e-5 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    delay_s = np.sort(rng.exponential(300e-9, (n, n_path)))
    if not per_path:
        delay_s = delay_s[:, None, None] + rng.normal(0, 3e-9, shape)
    return coeff.astype(np.complex64), delay_s.astype(np.float32)


def worst_error(h: Tensor, truth: np.ndarray) -> float:
    """Largest ||h_n - truth_n|| / ||truth_n|| over the users."""
    error = (h.detach().cpu().numpy() - truth).reshape(len(truth), -1)
    norms = np.linalg.norm(truth.reshape(len(truth), -1), axis=1)
    return float((np.linalg.norm(error, axis=1) / norms).max())


# --- The truth, and conventions that are not QuaDRiGa's -------------------------------------------


def opposite_sign(coeff: Tensor, delay_s: Tensor) -> Tensor:
    return respond(coeff, -delay_s)


def centred_grid(coeff: Tensor, delay_s: Tensor) -> Tensor:
    """f_k = (k - n/2) bandwidth/n."""
    turn = torch.polar(torch.ones_like(delay_s).double(), np.pi * BANDWIDTH_HZ * delay_s.double())
    return respond(coeff * turn.to(coeff.dtype), delay_s)


def one_delay_a_path(coeff: Tensor, delay_s: Tensor) -> Tensor:
    return respond(coeff, delay_s[:, 0, 0])


def conjugated(coeff: Tensor, delay_s: Tensor) -> Tensor:
    return respond(coeff, delay_s).conj().resolve_conj()


def grid_to_the_edge(coeff: Tensor, delay_s: Tensor) -> Tensor:
    """f_k = k bandwidth/(n - 1)."""
    return respond(coeff, delay_s * (N_SUB / (N_SUB - 1)))


MUTANTS = [opposite_sign, centred_grid, one_delay_a_path, conjugated, grid_to_the_edge]


@pytest.fixture(scope="module")
def native(shared_data: Path) -> tuple[Tensor, Tensor, np.ndarray]:
    """coeff, delay_s (300, 1, 32, P), zero-padded, and what QuaDRiGa's `fr` makes of them."""
    truth = scipy.io.loadmat(shared_data / "umi_native_300_fr.mat")["H"]
    coeff, delay_s = np.zeros((300, 1, 32, 24), np.complex64), np.zeros((300, 1, 32, 24))
    with h5py.File(shared_data / "umi_native_300.hdf5") as file:
        for i in range(300):
            user = file[f"channel_{i + 1}"]
            n_path = user["delay"].shape[0]
            coeff[i, ..., :n_path] = (user["coeff_re"][()] + 1j * user["coeff_im"][()]).T
            delay_s[i, ..., :n_path] = user["delay"][()].T
    return torch.from_numpy(coeff), torch.from_numpy(delay_s).float(), truth[:, None]


@pytest.mark.golden
def test_native_users_match_quadriga(native: tuple[Tensor, Tensor, np.ndarray]) -> None:
    coeff, delay_s, truth = native
    h = respond(coeff, delay_s)
    error = worst_error(h, truth)
    print(f"300 native users against QuaDRiGa's fr: {error:.2e} relative at worst")
    assert h.dtype == torch.complex64
    assert h.shape == (300, 1, 32, 32)
    assert error <= MOST_ERROR


@pytest.mark.golden
@pytest.mark.parametrize("mutant", MUTANTS)
def test_native_users_catch_mutants(
    native: tuple[Tensor, Tensor, np.ndarray], mutant: Transform
) -> None:
    coeff, delay_s, truth = native
    error = worst_error(mutant(coeff, delay_s), truth)
    print(f"{mutant.__name__}: {error:.2e}")
    assert error > 5 * MOST_ERROR


@pytest.mark.unit
@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_drawn_users_match_the_double_sum(mutant: Transform | None) -> None:
    coeff, delay_s = draw()
    truth = double_sum(coeff, delay_s, BANDWIDTH_HZ, N_SUB)
    h = (mutant or respond)(torch.from_numpy(coeff), torch.from_numpy(delay_s))
    error = worst_error(h, truth)
    assert error > 5 * MOST_ERROR if mutant else error <= 1e-6


@pytest.mark.unit
def test_path_on_a_tap_falls_on_that_tap() -> None:
    delay_s = torch.tensor([[3 / BANDWIDTH_HZ]])
    x = to_angular_delay(respond(torch.ones(1, 1, 4, 1, dtype=torch.complex64), delay_s))
    expected = torch.zeros(4, N_SUB)
    expected[0, 3] = (4 * N_SUB) ** 0.5
    torch.testing.assert_close(x[0, 0].abs(), expected, rtol=0, atol=1e-5)


# --- Properties -----------------------------------------------------------------------------------

sizes = st.integers(1, 4)


@pytest.mark.property
@given(
    shape=st.tuples(sizes, sizes, sizes, sizes),
    per_path=st.booleans(),
    double=st.booleans(),
    bandwidth_hz=st.floats(1e5, 1e9),
    n_sub=st.integers(1, 40),
    gain=st.floats(1e-12, 1e3),
    scale_s=st.floats(1e-9, 1e-4),
    seed=st.integers(0, 999),
)
def test_any_paths_match_the_double_sum(
    shape: tuple[int, int, int, int],
    per_path: bool,
    double: bool,
    bandwidth_hz: float,
    n_sub: int,
    gain: float,
    scale_s: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    coeff = gain * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    delay_s = scale_s * rng.standard_normal((shape[0], shape[3]) if per_path else shape)
    if not double:
        coeff, delay_s = coeff.astype(np.complex64), delay_s.astype(np.float32)
    pairs = delay_s[:, None, None] if per_path else delay_s
    truth = double_sum(coeff, np.broadcast_to(pairs, shape), bandwidth_hz, n_sub)
    h = frequency_response(
        torch.from_numpy(coeff), torch.from_numpy(delay_s), bandwidth_hz=bandwidth_hz, n_sub=n_sub
    )
    assert h.dtype == (torch.complex128 if double else torch.complex64)
    size = np.abs(coeff).sum(-1, keepdims=True)  # a sum that cancels keeps the error of its terms
    rounding = 1e-9 if double else 1e-6  # 1e-9: numpy's own phase, of up to 1e5 turns
    assert (np.abs(h.numpy() - truth) <= rounding * size).all()


@pytest.mark.property
@given(windows=st.integers(-30, 30), n_sub=st.integers(1, 64))
def test_delays_repeat_after_the_window(windows: int, n_sub: int) -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw(2))
    grid = {"bandwidth_hz": BANDWIDTH_HZ, "n_sub": n_sub}
    later = delay_s.double() + windows * n_sub / BANDWIDTH_HZ
    h = frequency_response(coeff, delay_s, **grid)  # type: ignore[arg-type]
    wrapped = frequency_response(coeff, later, **grid)  # type: ignore[arg-type]
    torch.testing.assert_close(wrapped, h, rtol=0, atol=1e-6 * float(h.abs().max()))


@pytest.mark.unit
def test_each_user_stands_alone() -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw(7))
    h = respond(coeff, delay_s)
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    torch.testing.assert_close(respond(coeff[order], delay_s[order]), h[order], rtol=0, atol=0)
    alone = torch.cat([respond(coeff[i : i + 1], delay_s[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(alone, h, rtol=0, atol=1e-6 * float(h.abs().max()))


@pytest.mark.unit
@pytest.mark.parametrize("per_path", [False, True])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, per_path: bool) -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw(7, per_path=per_path))
    h = respond(coeff, delay_s)
    monkeypatch.setattr(paths, "_BLOCK_VALUES", 2 * coeff[0].numel())
    torch.testing.assert_close(respond(coeff, delay_s), h, rtol=0, atol=1e-6 * float(h.abs().max()))


@pytest.mark.unit
def test_paths_without_coefficient_change_nothing() -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw())
    padded = torch.nn.functional.pad(coeff, (0, 5))
    late = torch.nn.functional.pad(delay_s, (0, 5), value=1e-6)
    h = respond(coeff, delay_s)
    torch.testing.assert_close(respond(padded, late), h, rtol=0, atol=1e-6 * float(h.abs().max()))


@pytest.mark.unit
def test_one_delay_a_path_is_the_same_delay_on_every_pair() -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw(per_path=True))
    pairs = delay_s[:, None, None].expand(coeff.shape)
    torch.testing.assert_close(respond(coeff, delay_s), respond(coeff, pairs), rtol=0, atol=0)


@pytest.mark.unit
@pytest.mark.parametrize("per_path", [False, True])
def test_gradients(per_path: bool) -> None:
    coeff, delay_s = draw(2, 1, 2, 3, per_path=per_path)
    unit = torch.from_numpy(1e5 * coeff).to(torch.complex128).requires_grad_()
    taps = torch.from_numpy(delay_s * BANDWIDTH_HZ).double().requires_grad_()  # in taps, order 1

    def of_taps(coeff: Tensor, taps: Tensor) -> Tensor:
        return frequency_response(coeff, taps, bandwidth_hz=1.0, n_sub=5)

    assert torch.autograd.gradcheck(of_taps, (unit, taps))


@pytest.mark.unit
def test_gradients_of_float32_inputs() -> None:
    coeff, delay_s = (torch.from_numpy(part).requires_grad_() for part in draw(2))
    respond(coeff, delay_s).abs().square().sum().backward()
    for part in (coeff, delay_s):
        assert part.grad is not None
        assert part.grad.dtype == part.dtype
        assert torch.isfinite(part.grad).all()
        assert (part.grad != 0).any()


@pytest.mark.unit
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_gives_the_same() -> None:
    coeff, delay_s = (torch.from_numpy(part) for part in draw())
    h = respond(coeff.cuda(), delay_s.cuda())
    assert h.is_cuda
    truth = double_sum(coeff.numpy(), delay_s.numpy(), BANDWIDTH_HZ, N_SUB)
    assert worst_error(h, truth) <= 1e-6


# --- Energy beyond the window ---------------------------------------------------------------------


@pytest.mark.unit
def test_energy_beyond_the_window_is_counted_by_nearest_tap() -> None:
    # 4 taps of 1 us: round(tau bandwidth) is 0, 3, 4, -1, 0 and 4.
    delay_s = 1e-6 * torch.tensor([[0.2, 3.4, 3.6, -0.6, -0.4, 4.2]])
    coeff = torch.tensor([1, 1j, 2, -1, 1, 3], dtype=torch.complex64).expand(1, 2, 3, 6) * 1e-9
    share = energy_beyond_window(coeff, delay_s, bandwidth_hz=1e6, n_sub=4)
    assert share.dtype == torch.float64
    assert share.tolist() == [pytest.approx((4 + 1 + 9) / 17)]


@pytest.mark.unit
def test_energy_beyond_the_window_is_counted_by_antenna_pair() -> None:
    coeff = torch.ones(3, 1, 4, 1, dtype=torch.complex64)
    coeff[2] = 0
    delay_s = torch.zeros(3, 1, 4, 1)
    delay_s[0, 0, 1] = 5e-6
    share = energy_beyond_window(coeff, delay_s, bandwidth_hz=1e6, n_sub=4)
    assert share.tolist() == [0.25, 0.0, 0.0]


@pytest.mark.golden
def test_native_users_fit_their_window(native: tuple[Tensor, Tensor, np.ndarray]) -> None:
    coeff, delay_s, _ = native
    share = energy_beyond_window(coeff, delay_s, bandwidth_hz=BANDWIDTH_HZ, n_sub=N_SUB)
    assert 0 < share.mean() < 1e-3  # some paths come after 3.2 us, with next to no energy


# --- Errors ---------------------------------------------------------------------------------------


def paths_with(**changed: Tensor) -> dict[str, Tensor]:
    coeff, delay_s = draw(3, 1, 2, 4)
    return {"coeff": torch.from_numpy(coeff), "delay_s": torch.from_numpy(delay_s), **changed}


BAD_PATHS = [
    (
        paths_with(coeff=torch.ones(3, 1, 2, 4)),
        "coeff must be complex (N, n_rx, n_tx, P); got torch.float32 (3, 1, 2, 4).",
    ),
    (
        paths_with(coeff=torch.ones(3, 2, 4, dtype=torch.complex64)),
        "coeff must be complex (N, n_rx, n_tx, P); got torch.complex64 (3, 2, 4).",
    ),
    (
        paths_with(delay_s=torch.ones(3, 1, 4, 2)),
        "delay_s must be real (3, 4), one delay a path, or (3, 1, 2, 4), one an antenna pair and "
        "path; got torch.float32 (3, 1, 4, 2). Is the path the last axis?",
    ),
    (
        paths_with(delay_s=torch.ones(3, 4, dtype=torch.int64)),
        "one an antenna pair and path; got torch.int64 (3, 4).",
    ),
    (
        paths_with(delay_s=torch.tensor([[0.0] * 4, [np.nan] * 4, [0, 0, np.inf, 0]])),
        "delay_s must be finite; 2 of 3 users (index 1, 2) hold NaN or Inf. "
        "Give missing paths the delay 0 and the coefficient 0.",
    ),
]


@pytest.mark.unit
@pytest.mark.parametrize("function", [frequency_response, energy_beyond_window])
@pytest.mark.parametrize(("given_paths", "message"), BAD_PATHS)
def test_bad_paths(
    function: Callable[..., Tensor], given_paths: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(CsiAuditError, match=re.escape(message)):
        function(**given_paths, bandwidth_hz=1e6, n_sub=4)


@pytest.mark.unit
@pytest.mark.parametrize("function", [frequency_response, energy_beyond_window])
@pytest.mark.parametrize(
    ("bandwidth_hz", "n_sub", "message"),
    [
        (0.0, 4, "bandwidth_hz must be a positive number of hertz; got 0.0. 10 MHz is"),
        (-1e6, 4, "bandwidth_hz must be a positive number of hertz; got -1000000.0."),
        (float("nan"), 4, "bandwidth_hz must be a positive number of hertz; got nan."),
        (1e6, 0, "n_sub must be a whole number of at least 1; got 0."),
        (1e6, 2.5, "n_sub must be a whole number of at least 1; got 2.5."),
    ],
)
def test_bad_grids(
    function: Callable[..., Tensor], bandwidth_hz: float, n_sub: int, message: str
) -> None:
    with pytest.raises(CsiAuditError, match=re.escape(message)):
        function(**paths_with(), bandwidth_hz=bandwidth_hz, n_sub=n_sub)


@pytest.mark.unit
def test_window_caution() -> None:
    said = window_caution(torch.tensor([0.0, 0.25, math.nan]), bandwidth_hz=2e7, n_sub=32)
    assert said == (
        "12.5 % of the path energy lies beyond the delay window n_sub/bandwidth = 1.6 us and wraps "
        "around; a larger n_sub holds it.",
    )
    for few in ([0.01], [math.nan], []):
        assert window_caution(torch.tensor(few), bandwidth_hz=2e7, n_sub=32) == ()
