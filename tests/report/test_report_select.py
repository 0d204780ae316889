from __future__ import annotations

import pytest
from synthetic_records import MACHINE, changed, full_grid, record, trial

from bench.report.select import Section, StudyView, select_sections, summarize

VIEW = StudyView(name="imaginary")


def _sections(records: list[dict], view: StudyView = VIEW) -> tuple[Section, ...]:
    return select_sections(records, view, "imaginary-2c")


def test_replicates_of_a_configuration_share_a_row() -> None:
    (section,) = _sections([record(t) for t in full_grid(replicates=3)])
    assert {len(row.records) for row in section.trained} == {3}
    assert {len(row.records) for row in section.floors} == {1}


def test_summary_over_a_gap_does_not_exist() -> None:
    assert summarize([1.0, None, 3.0]) is None
    assert summarize([]) is None


def test_summary_is_median_and_range() -> None:
    summary = summarize([5.0, 1.0, 2.0])
    assert summary is not None
    assert (summary.median, summary.low, summary.high, summary.num_values) == (2.0, 1.0, 5.0, 3)


def test_row_with_a_failed_replicate_summarizes_the_others() -> None:
    good = trial("mach", num_buckets=64, num_worlds=2)
    bad = trial("mach", num_buckets=64, num_worlds=2, replicate=1)
    (section,) = _sections([record(good), record(bad, status="timeout")])
    (row,) = section.trained
    summary = row.at("test", "P@1")
    assert summary is not None
    assert summary.num_values == 1


def test_parts_and_data_sets_are_sections_by_number_of_labels() -> None:
    trials = [trial("full_softmax", data=name, chunk_size=None) for name in ("all", "small")]
    sections = _sections([record(t) for t in trials])
    assert [section.data_name for section in sections] == ["small", "all"]
    assert not any(section.is_only for section in sections)


def test_records_of_two_machines_never_share_a_section() -> None:
    first = record(trial("full_softmax", chunk_size=None))
    other = record(
        trial("full_softmax", chunk_size=None, replicate=1), machine={**MACHINE, "num_cores": 64}
    )
    sections = _sections([first, other])
    assert [len(section.records) for section in sections] == [1, 1]


def test_machines_that_differ_in_pages_of_free_memory_share_a_section() -> None:
    pages = {**MACHINE, "memory_bytes": MACHINE["memory_bytes"] - 8192}
    first = record(trial("full_softmax", chunk_size=None))
    other = record(trial("full_softmax", chunk_size=None, replicate=1), machine=pages)
    (section,) = _sections([first, other])
    assert len(section.records) == 2


def test_records_of_two_corpora_never_share_a_section() -> None:
    first = record(trial("full_softmax", chunk_size=None))
    other = changed(
        record(trial("full_softmax", chunk_size=None, replicate=1)), "beef", "data", "fingerprint"
    )
    unread = changed(record(trial("full_softmax", chunk_size=64), status="error"), None, "data")
    sections = _sections([first, other, unread])
    assert sorted(len(section.records) for section in sections) == [1, 2]


def test_record_of_a_trial_that_the_study_dropped_is_left_out() -> None:
    kept, dropped = trial("frequency"), trial("centroid")
    view = StudyView(name="imaginary", trial_ids=frozenset({kept.trial_id}))
    (section,) = _sections([record(kept), record(dropped)], view)
    assert [row.method for row in section.rows] == ["frequency"]


@pytest.mark.parametrize("order", [1, -1])
def test_rows_are_sorted_by_method_and_numbers_as_numbers(order: int) -> None:
    trials = [trial("mach", num_buckets=b, num_worlds=4) for b in (1024, 256, 4096)]
    trials += [trial("frequency"), trial("full_softmax", chunk_size=None)]
    (section,) = _sections([record(t) for t in trials[::order]])
    assert [row.method for row in section.rows] == ["full_softmax"] + ["mach"] * 3 + ["frequency"]
    assert [row.options["num_buckets"] for row in section.rows[1:4]] == [256, 1024, 4096]


def test_unsaid_defaults_still_tell_rows_apart() -> None:
    trials = [
        trial("mach", num_buckets=256, num_worlds=4),
        trial("mach", num_buckets=256, num_worlds=4, share_encoder=True),
        trial("sampled_softmax", sampler="in_batch", num_samples=7),
    ]
    (section,) = _sections([record(t) for t in trials])
    assert [row.setting for row in section.rows] == [
        "in-batch, H=128",
        "B=256, R=4, H=128, independent encoders, default estimator",
        "B=256, R=4, H=128, shared encoder, default estimator",
    ]


def test_setting_names_what_always_matters_and_what_tells_rows_apart() -> None:
    trials = [
        trial("mach", num_buckets=256, num_worlds=4, hash_family="universal"),
        trial("mach", num_buckets=256, num_worlds=4, hash_family="balanced", learning_rate=0.1),
        trial("full_softmax", chunk_size=None),
        trial("frequency"),
    ]
    (section,) = _sections([record(t) for t in trials])
    assert [row.setting for row in section.rows] == [
        "plain, H=128, lr=0.001",
        "B=256, R=4, H=128, independent encoders, hash=balanced, default estimator, lr=0.1",
        "B=256, R=4, H=128, independent encoders, hash=universal, default estimator, lr=0.001",
        "",
    ]
