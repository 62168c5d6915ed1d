"""`check.json`: every key has its sentence, what is written is read, damage is one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from channels.support import CsiAuditError
from reports.check_schema import CHECK_KEYS, BaseCheck, load_check
from reports.check_tables import ratio_cells, tables_of_check
from reports.check_words import check_sentences
from reports.distances import wasserstein_item
from reports.estimates import Estimate
from reports.fidelity_items import ClassifierTest, Memorisation, TrainDistortion
from reports.keys import schema_paths
from reports.neighbours import neighbour_coverage
from reports.realism import base_item, base_verdict
from reports.schema import BaseInfo, DataInfo
from reports.step_movement import seed_spread, step_doubling
from reports.tail_ratios import tail_ratio

pytestmark = pytest.mark.unit


def a_check(factor: float = 1.0, seed: int = 0) -> BaseCheck:
    """A base whose distortions are `factor` times the real ones, of 500 samples and 800 users."""
    random = np.random.default_rng(seed)
    base, real = factor * random.exponential(size=500), random.exponential(size=800)
    realism = (
        base_item("a", base, real, kind="distortion", label="NMSE of a"),
        base_item("delay_spread_s", base * 1e-8, real * 1e-8, kind="feature"),
    )
    ratios = tuple(tail_ratio("a", base, real, share=s, label="NMSE of a") for s in (0.1, 0.001))
    closer = tail_ratio("distance", -base, -real, share=0.01)
    auc = Estimate(value=0.6, interval=(0.58, 0.62), n=1300, method="AUC")
    return BaseCheck(
        created="2026-01-02T03:04:05Z",
        versions={"csi-audit": "0.1.0"},
        seed=0,
        base=BaseInfo(sha256="ab", verdict=base_verdict(realism, ratios), n_samples=500),
        chain="probability-flow ODE (2M), 30 steps",
        raw_power=(0.95, 1.0, 1.05),
        data=DataInfo(path="val.mat", sha256="cd", n=800),
        train=DataInfo(path="train.h5", sha256="ef", n=900),
        realism=realism,
        wasserstein=(
            wasserstein_item("a", base, real, label="NMSE of a", unit="dB", seed=0),
            wasserstein_item("delay_spread_s", base, real, label="delay spread", unit="ns", seed=0),
        ),
        tail_ratios=ratios,
        classifier=ClassifierTest(
            auc=auc, perfect_95=0.52, limit=0.65, n_columns=138, folds=5, verdict="pass"
        ),
        neighbours=neighbour_coverage(random.normal(size=(50, 2)), random.normal(size=(60, 2))),
        memorisation=Memorisation(
            n_train=900, median_base=0.6, median_held_out=0.6, nearest_base=0.1,
            nearest_held_out=0.1, closer=closer, verdict="no sign",
        ),
        train_distortion=(
            TrainDistortion(
                name="a", base_db=-5.0, train_db=-6.0, held_out_db=-5.0, ks_train=0.2,
                ks_held_out=0.1, n_train=800, verdict="takes after the held-out users",
            ),
        ),
        doubling=(step_doubling("a", base, base, real, kind="distortion", label="NMSE of a"),),
        seeds=(seed_spread("a", [base[:250], base[250:]]),),
    )  # fmt: skip


def test_every_key_has_its_sentence() -> None:
    assert set(schema_paths(BaseCheck)) == set(CHECK_KEYS)
    assert all(sentence.endswith(".") for sentence in CHECK_KEYS.values())


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    check = replace(a_check(), words=("One.", "Two."))
    path = check.save(tmp_path)
    assert path == tmp_path / "check.json"
    assert load_check(tmp_path) == load_check(path) == check
    assert [p.name for p in tmp_path.iterdir()] == ["check.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"check\.json cannot be read: .*Check the base again\."),
        ("[]", r"check_version must be 1; got None"),
        ('{"check_version": 9}', r"check_version must be 1; got 9\. It was written by another"),
        ('{"check_version": 1}', r"is not a valid check: check lacks the key 'created'"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "check.json").write_text(text)
    with pytest.raises(CsiAuditError, match=message):
        load_check(tmp_path)
    with pytest.raises(CsiAuditError, match=r"does not exist\. Did csi-audit check-base finish"):
        load_check(tmp_path / "none")


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    plain = json.loads(a_check().to_json())
    (tmp_path / "check.json").write_text(json.dumps({**plain, "chian": 1}))
    with pytest.raises(CsiAuditError, match=r"unknown key 'chian'. Did you mean 'chain'"):
        load_check(tmp_path)


def test_a_fine_base_in_words() -> None:
    words = check_sentences(a_check())
    assert words[0].startswith("The base law cannot be told from the real channels: ")
    assert "Accepted is a KS distance of at most" in words[0]
    text = " ".join(words)
    for part in (
        "Of 2 tail ratios, ",
        "A classifier trained on 1,300 of both tells base samples from real channels with an AUC "
        "of 0.600 [0.580, 0.620]",
        "0.65 is accepted: pass.",
        "There is no sign that the base gives training channels back",
        "For no compressor do base samples take after the training users alone.",
        "Twice the steps move nothing",
        "Seeds differ by no more than chance",
        "[0.95, 1.05] (median 1.00): as it should.",
    ):
        assert part in text


def test_a_poor_base_in_words() -> None:
    check = a_check(factor=2.0)
    assert check.memorisation is not None
    copies = replace(check.memorisation, verdict="copies")
    takes = replace(check.train_distortion[0], verdict="takes after the training users")
    moved = replace(check.doubling[0], verdict="moves", ks=0.2)
    differ = replace(check.seeds[0], verdict="seeds differ")
    poor = replace(
        check, memorisation=copies, train_distortion=(takes,), doubling=(moved,), seeds=(differ,),
        raw_power=(0.5, 1.0, 1.4),
    )  # fmt: skip
    words = " ".join(check_sentences(poor))
    assert words.startswith("The base law misses the real channels")
    for part in (
        "The base gives training channels back",
        "take after the training users rather than after held-out ones for a",
        "Twice the steps move NMSE of a",
        "Seeds differ by more than chance for a",
        "far from 1 is the mark of an unfinished base",
    ):
        assert part in words


def test_what_was_not_checked_says_so() -> None:
    check = replace(
        a_check(), base=BaseInfo(sha256=None), realism=(), tail_ratios=(), wasserstein=(),
        classifier=None, neighbours=None, memorisation=None, train_distortion=(), doubling=(),
        seeds=(),
    )  # fmt: skip
    words = check_sentences(check)
    assert words[0].startswith("No distortion was compared")
    assert "The classifier was not trained: there are too few channels or samples." in words
    assert any(sentence.endswith("was not checked: name --train.") for sentence in words)
    assert "Whether figures move with the number of steps was not checked." in words


def test_tables_hold_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    check = a_check()
    tables = list(tables_of_check(check))
    assert [table.row_count for table in tables] == [2, 2, 1, 1]
    for table in tables:
        Console(width=200).print(table)
    printed = capsys.readouterr().out
    assert "delay spread" in printed
    cells = ratio_cells(check.tail_ratios[0])
    assert cells[:2] == ("NMSE of a", "10 %")
    assert cells[4] == "80 of 800"
    unknown = tail_ratio("a", [1.0, 2.0], [1.0, 2.0], share=0.01)
    assert ratio_cells(unknown)[2:] == ("-", "0 of 2", "0 of 2", "unknown", "-", "cannot tell")
