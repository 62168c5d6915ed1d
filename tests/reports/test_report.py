"""The page: words on the first screen, escaping, missing parts, files that appear whole."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from channels.support import CsiAuditError
from reports import (
    BaseInfo,
    Cost,
    DataInfo,
    ReportArrays,
    Result,
    Tail,
    answer,
    base_verdict,
    klt_sentence,
    markdown_summary,
    proportion,
    realism_item,
    summary_table,
    write_report,
)
from reports.gallery import Picture, slug
from reports.report import EMBED_BYTES, render_page, replace_figures
from reports.tables import result_table

pytestmark = pytest.mark.unit

NASTY = "<script>alert('x')</script> & \"ü\" |*`"


def without(result: Result, source: str) -> Result:
    """The result as it is without base samples or without real channels."""
    rows = []
    for row in result.compressors:
        nothing: Any = {source: None}
        tails = tuple(replace(t, **nothing) for t in row.estimates.tails)
        estimates = replace(row.estimates, tails=tails, issgm=None)
        if source == "base":
            estimates = replace(estimates, e_p=None, e_q=None)
        losses = {name: replace(loss, **nothing) for name, loss in row.losses.items()}
        worst = tuple(item for item in row.worst if item.source != source)
        rows.append(replace(row, estimates=estimates, losses=losses, worst=worst))
    items = tuple(realism_item(row.name, None, None, kind="distortion") for row in rows)
    base = BaseInfo(sha256=None) if source == "base" else result.base
    base = replace(base, verdict=base_verdict(items))
    return replace(result, compressors=tuple(rows), realism=items, base=base)


def first_screen(page: str) -> str:
    """The page up to the evidence, tags removed."""
    return re.sub(r"<[^>]+>", " ", page.split('<h2 id="evidence">')[0].split("</style>")[1])


# --- The page -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_report_is_whole_small_and_needs_no_network(
    fake_result: Result, fake_arrays: ReportArrays, tmp_path: Path
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"of an earlier run")
    written = write_report(fake_result, fake_arrays, tmp_path)
    page = written.read_text(encoding="utf-8")
    assert written.stat().st_size < 5_000_000
    assert page.startswith("<!DOCTYPE html>\n")
    sources = re.findall(r'<img src="([^"]{0,22})', page)
    assert len(sources) == 15
    assert set(sources) == {"data:image/png;base64,"}
    assert not re.findall(r"https?://|<script|<link|@import|url\(", page)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures", "report.html"]
    per_compressor = {
        f"{kind}-{tag}"
        for tag in ("1-csinet-1-16", "2-crnet-1-16", "3-klt-1-16")
        for kind in ("distortion", "worst", "exemplars-real", "exemplars-base")
    }
    names = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert names == per_compressor | {"overview", "realism-distortion", "realism-feature"}


def test_first_screen_answers_in_words(fake_result: Result) -> None:
    screen = first_screen(render_page(fake_result))
    for sentence in answer(fake_result):
        assert sentence in screen
    assert "CRNet 1/16 was trained for 20 epochs only." in screen


def test_the_three_sentences(fake_result: Result) -> None:
    who, trust, worst = answer(fake_result)
    assert who.startswith("CsiNet 1/16 fails most often (NMSE above −11 dB): on 10.3 % [")
    assert "of 600 real channels and 11.5 % [" in who
    assert "KLT 1/16 fails least" in who
    assert trust.startswith("The base law cannot be told from the real channels: distortions")
    assert "1 agrees and 5 rest on too few failures to tell" in trust
    assert worst.startswith("The worst 2 % of base samples for CsiNet 1/16 (8 channels) have more")
    assert worst.endswith("The same feature leads for CRNet 1/16 and KLT 1/16.")


def test_a_base_that_misses_is_said_so_on_the_first_screen(fake_result: Result) -> None:
    item = replace(fake_result.realism[0], ks=0.31, verdict="off")
    missed = replace(
        fake_result,
        realism=(item, *fake_result.realism[1:]),
        base=replace(fake_result.base, verdict="misses"),
    )
    page = render_page(missed)
    assert "The base law misses the real channels" in first_screen(page)
    assert "at most 0.310 (CsiNet 1/16), where a perfect model would show 0.056" in page
    assert 'class="answer misses"' in page
    assert "The worst 2 % of real channels" in answer(missed)[2]
    columns, rows = result_table(missed)
    tones = {
        rows[0][i].tone for i, column in enumerate(columns) if column.title in ("base", "E_q[L]")
    }
    assert tones == {"unsure"}


def test_strings_are_escaped(fake_result: Result) -> None:
    row = fake_result.compressors[0]
    nasty = replace(
        fake_result,
        data=replace(fake_result.data, path=NASTY, description=NASTY),
        base=replace(fake_result.base, name=NASTY),
        compressors=(
            replace(row, name=NASTY, spec=NASTY, convention=NASTY, against_klt=NASTY),
            *fake_result.compressors[1:],
        ),
        tau=(replace(fake_result.tau[0], label=NASTY, origin=NASTY), fake_result.tau[1]),
        warnings=(NASTY,),
        notes=(NASTY,),
        audited_law=NASTY,
        versions={NASTY: NASTY},
        cost=Cost(parts={NASTY: 3}, denoiser_evaluations=3, machine=NASTY),
    )
    picture = Picture(
        name="a", section="compressor", compressor=NASTY, caption=NASTY, alt=NASTY, png=b"1"
    )
    page = render_page(nasty, [picture])
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;ü&#34;" in page
    text = markdown_summary(nasty)
    assert "<script" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


def test_no_real_channels_still_give_a_page(fake_result: Result) -> None:
    bare = without(replace(fake_result, data=DataInfo(path="x", sha256=None, n=0)), "real")
    screen = first_screen(render_page(bare))
    assert "The base law was not checked against real channels" in screen
    assert "unknown" in screen
    assert "CsiNet 1/16 fails most often" in screen
    assert "guided sampler" not in render_page(bare)


def test_no_base_samples_still_give_a_page(fake_result: Result) -> None:
    bare = without(fake_result, "base")
    screen = first_screen(render_page(bare))
    assert "There is no base law here" in screen
    assert "worst 2 % of real channels" in screen
    assert " nan" not in screen.lower()
    assert "None" not in screen


def test_an_empty_audit_still_gives_a_page(fake_result: Result) -> None:
    empty = replace(
        fake_result, compressors=(), tau=(), realism=(), warnings=(), notes=(), seed=None,
        versions={}, base=BaseInfo(sha256=None), cost=Cost(), audited_law="",
    )  # fmt: skip
    page = render_page(empty)
    assert "No compressor was audited." in page
    assert "nothing was counted" in page
    assert "<dt>Seed</dt><dd>unknown</dd>" in page
    assert "<dt>Denoiser evaluations</dt><dd>unknown</dd>" in page


def test_short_and_full_issgm_stand_side_by_side(fake_result: Result) -> None:
    page = render_page(fake_result)
    assert "CsiNet 1/16, short run (64 samples, 100 steps): E_q[L] = 0.06" in page
    assert "Full benchmark of the same base model: E_q[L] = 0.06" in page
    assert "Chain of this run: issgm, 100 steps, finite difference 0.005 sigma." in page
    assert "steps = 1000 and samples = 512." in page


def test_a_doubtful_guided_run_is_said_so(fake_result: Result) -> None:
    row: Any = fake_result.compressors[0]
    issgm = replace(row.estimates.issgm, e_q=replace(row.estimates.issgm.e_q, status="uneven"))
    changed = replace(row, estimates=replace(row.estimates, issgm=issgm))
    page = render_page(replace(fake_result, compressors=(changed,)))
    assert "E_q[L], issgm: uneven." in page


def test_pictures_beyond_the_budget_are_linked(fake_result: Result) -> None:
    pictures = [
        Picture(name=name, section="overview", compressor="", caption="", alt="", png=png)
        for name, png in (("small", b"1"), ("large", b"2" * EMBED_BYTES))
    ]
    page = render_page(fake_result, pictures)
    assert 'src="data:image/png;base64,MQ=="' in page
    assert 'src="figures/large.png"' in page


def test_figures_are_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing or killed replacement leaves the old figures, beside or in their place."""
    old, new = (
        Picture(name=name, section="overview", compressor="", caption="", alt="", png=b"1")
        for name in ("old", "new")
    )
    folder = tmp_path / "figures"
    replace_figures(folder, [old])
    rename, seen = Path.rename, []

    def broken(self: Path, target: Path) -> Path:
        seen.append(sorted(path.name for path in tmp_path.rglob("*.png")))
        if len(seen) == 2:
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="disk"):
        replace_figures(folder, [new])
    assert seen == [["new.png", "old.png"]] * 2 + [["new.png", "old.png"]]
    assert [path.name for path in tmp_path.rglob("*.png")] == ["old.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_figures_a_killed_report_left_are_swept(tmp_path: Path, dead_process: int) -> None:
    for name in (f".figures.{dead_process}.tmp", f".figures.old.{dead_process}.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"1")
    others = [f".figures.{os.getppid()}.tmp", f".x.{dead_process}.tmp"]
    for name in others:
        (tmp_path / name).mkdir()
    replace_figures(tmp_path / "figures", [])
    assert {path.name for path in tmp_path.iterdir()} == {"figures", *others}


def test_unwritable_folder_is_one_line(fake_result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CsiAuditError, match=r"file/run cannot be written: Not a directory"):
        write_report(replace(fake_result, compressors=()), None, tmp_path / "file" / "run")


# --- Words and tables -----------------------------------------------------------------------------


def tails_of(result: Result, counts: list[tuple[int, int]]) -> Result:
    """The result with its fixed threshold counted anew on real channels, k of n each."""
    rows = []
    for row, (k, n) in zip(result.compressors, counts, strict=True):
        tail = Tail(threshold="fixed", nmse_db=-11.0, base=None, real=proportion(k, n),
                    agreement="cannot tell")  # fmt: skip
        rows.append(replace(row, estimates=replace(row.estimates, tails=(tail,))))
    return replace(result, compressors=tuple(rows))


def test_nobody_is_ranked_on_chance(fake_result: Result) -> None:
    close = tails_of(fake_result, [(10, 600), (12, 600), (8, 600)])
    assert answer(close)[0].startswith("No compressor clearly fails more often than another")
    none = tails_of(fake_result, [(0, 600)] * 3)
    assert "none of 600 real channels (below 0.61 %)" in answer(none)[0]


def test_a_credible_base_with_differences_is_not_oversold(fake_result: Result) -> None:
    row = fake_result.compressors[0]
    tail = replace(row.estimates.tails[0], agreement="differ")
    changed = replace(row, estimates=replace(row.estimates, tails=(tail,)))
    sentence = answer(replace(fake_result, compressors=(changed,)))[1]
    assert sentence.startswith("The base law is close to the real channels but not equal to them")
    assert "known on both sides, 1 differs. Where the columns" in sentence


def test_an_own_threshold_does_not_rank(fake_result: Result) -> None:
    own = replace(fake_result, tau=fake_result.tau[:1])
    assert answer(own)[0].startswith("Each compressor has its own threshold (own 99 % quantile)")
    single = replace(fake_result, compressors=fake_result.compressors[:1])
    assert answer(single)[0].startswith("CsiNet 1/16 fails (NMSE above −11 dB) on 10.3 %")


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (None, "A was not compared with the KLT of equal code length."),
        (0.01, "A is level with the KLT of equal code length."),
        (1.26, "A beats the KLT of equal code length by 1.3 dB."),
        (-2.0, "A does not beat the KLT of equal code length: it is 2.0 dB worse."),
    ],
)
def test_klt_sentence(gain: float | None, text: str) -> None:
    assert klt_sentence("A", gain) == text


def test_terminal_table_fits_and_shows_markup_as_text(fake_result: Result) -> None:
    first = replace(fake_result.compressors[0], name="[red]A[/red]")
    text = _printed(replace(fake_result, compressors=(first, *fake_result.compressors[1:])))
    assert "[red]A[/red]" in text
    assert "10.3 % [8.0, 13.1]" in text
    assert max(map(len, text.splitlines())) <= 100


def _printed(result: Result) -> str:
    console = Console(width=100, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary_table(result))
    return capture.get()


def test_every_row_has_every_column(fake_result: Result) -> None:
    columns, rows = result_table(fake_result)
    assert {len(row) for row in rows} == {len(columns)}
    titles = [column.title for column in columns]
    assert titles[-2:] == ["Code length", "Against KLT"]
    assert [row[-1].text for row in rows] == ["−2.1 dB", "−0.6 dB", "n/a"]
    other = replace(fake_result.compressors[1].estimates, loss="MSE")
    mixed = (fake_result.compressors[0], replace(fake_result.compressors[1], estimates=other))
    means = [row[titles.index("E_p[L]")].text for row in result_table(
        replace(fake_result, compressors=mixed))[1]]  # fmt: skip
    assert [text.split()[-1] for text in means] == ["NMSE", "MSE"]


def test_uneven_weights_carry_a_star(fake_result: Result) -> None:
    row: Any = fake_result.compressors[0]
    status = "weights too uneven (CV^2 = 5.0, limit 2): interval may be too short"
    estimates = replace(row.estimates, e_q=replace(row.estimates.e_q, status=status))
    starred = replace(fake_result, compressors=(replace(row, estimates=estimates),))
    page = render_page(starred)
    note = "* weights too uneven for the interval to be relied on."
    assert re.search(r"0\.06\d\d \* <small>", page)
    assert note in page
    assert f"- \\{note}\n" in markdown_summary(starred)
    assert note not in render_page(fake_result)
    assert note not in markdown_summary(fake_result)
    assert f"E_q[L]: {status}." in page


@pytest.mark.parametrize(("name", "tag"), [("A/b c", "3-a-b-c"), ("日本", "3"), ("", "3")])
def test_file_names_are_safe(name: str, tag: str) -> None:
    assert slug(2, name) == tag
