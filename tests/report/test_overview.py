"""The overview of studies: the leader of each group, and what was measured elsewhere."""

from __future__ import annotations

import synthetic_records as made

from bench.report.tables.overview import leaders_text, overview_table
from bench.studies.presets import PRESETS
from bench.studies.published import Published
from bench.studies.study import Study

PRESET = "delicious-983-third-party"
ELSEWHERE = Published(
    label="MACH (third party)",
    metrics={"P@1": 0.712},
    source="a sheet",
    repeated=("table-multilabel", PRESET),
)


def _study(name: str, *published: Published) -> Study:
    return made.study(name, primary_metrics=("P@1",), part=lambda trial: "P", published=published)


def test_a_number_from_elsewhere_stands_with_our_own_run_of_its_set_up() -> None:
    shown = made.sections(
        [made.record(made.trial("full_softmax"))], of=_study("imaginary", ELSEWHERE)
    )
    own = PRESETS[PRESET].trial()
    record = made.record(made.trial("mach", num_buckets=64, num_worlds=4), accuracy=0.693)
    record |= {"settings": own.to_dict(), "trial_id": own.trial_id}
    rerun = made.sections([record], of=_study("table-multilabel"))
    table = overview_table(shown, {"table-multilabel": rerun}.__getitem__)
    assert table.groups[0][0][-1].text == "71.2 MACH (third party), run here 69.3"
    (line,) = overview_table(shown).groups[0]
    assert line[-1].text == "71.2 MACH (third party)"


def test_no_group_is_marked_as_the_best_for_none_is_tuned_like_another() -> None:
    records = [
        made.record(made.trial("full_softmax"), accuracy=0.4),
        made.record(made.trial("mach", num_buckets=64, num_worlds=4), accuracy=0.6),
    ]
    table = overview_table(made.sections(records, of=_study("imaginary")))
    assert not any(cell.is_bold for group in table.groups for row in group for cell in row)


def _leaders(first: tuple[float, ...], second: tuple[float, ...]) -> str:
    """Sentence of two methods with these qualities of their replicates."""
    records = [
        made.record(made.trial(method, replicate=index, **options), accuracy=quality)
        for method, options, qualities in (
            ("full_softmax", {"chunk_size": 8}, first),
            ("mach", {"num_buckets": 64, "num_worlds": 4}, second),
        )
        for index, quality in enumerate(qualities)
    ]
    return leaders_text(made.sections(records, of=_study("imaginary"))[0])


def test_a_winner_is_named_beyond_the_spread_of_replicates_alone() -> None:
    apart = _leaders((0.30, 0.32), (0.40, 0.42))
    assert "MACH 41.0 (40.0–42.0), Full softmax 31.0 (30.0–32.0)." in apart
    assert "MACH is 10.0 points ahead of Full softmax, beyond the spread" in apart
    assert "within the spread" in _leaders((0.30, 0.41), (0.40, 0.42))
    # One replicate has no spread, but a test of so many points an error.
    assert "beyond two standard errors of the test" in _leaders((0.30,), (0.40,))
    assert "within two standard errors of the test" in _leaders((0.300,), (0.301, 0.302))


def test_a_row_that_was_not_chosen_alike_stands_for_no_method() -> None:
    records = [
        made.record(made.trial("mach", num_buckets=64, num_worlds=4), accuracy=0.4),
        made.record(made.trial("mach", num_buckets=128, num_worlds=4), accuracy=0.6),
    ]
    study = made.study(
        "imaginary",
        primary_metrics=("P@1",),
        is_chosen=lambda trial: trial.model.options["num_buckets"] == 64,
    )
    (line,) = overview_table(made.sections(records, of=study)).groups[0]
    assert line[1].text.startswith("40.0")
