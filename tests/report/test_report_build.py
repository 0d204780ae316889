from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_records import MACHINE, changed, record, trial, write

from bench.record import SchemaError
from bench.report import build, check
from bench.report.kinds import rendering_of
from bench.report.select import StudyView
from bench.study import TRAINING, StudyError

TABLE = "tables/imaginary/imaginary-2c.md"
FIGURE = "figures/imaginary/imaginary-2c/memory-parts-small"


def test_rebuild_gives_the_same_bytes(results: Path, tmp_path: Path) -> None:
    first = build(results, tmp_path / "a")
    second = build(results, tmp_path / "b")
    assert [p.relative_to(tmp_path / "a") for p in first] == [
        p.relative_to(tmp_path / "b") for p in second
    ]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_order_of_records_does_not_matter(results: Path, tmp_path: Path) -> None:
    first = build(results, tmp_path / "a")
    path = results / "records/imaginary/imaginary-2c.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[::-1]) + "\n")
    second = build(results, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_fresh_results_have_no_problems(results: Path) -> None:
    build(results)
    assert check(results) == []


def test_edited_missing_and_extra_files_are_found(results: Path) -> None:
    build(results)
    table = results / TABLE
    table.write_text(table.read_text().replace("Full softmax", "Best softmax", 1))
    (results / f"{FIGURE}.svg").unlink()
    (results / "tables/imaginary/other.md").write_text("made by hand")
    assert check(results) == [
        f"{FIGURE}.svg: missing; run the report",
        "tables/imaginary/other.md: no record accounts for it",
        f"{TABLE}: differs from what the records give",
    ]


def test_new_record_makes_tables_outdated(results: Path) -> None:
    build(results)
    path = results / "records/imaginary/imaginary-2c.jsonl"
    extra = record(trial("mach", data="all", num_buckets=99, num_worlds=3))
    path.write_text(path.read_text() + json.dumps(extra) + "\n")
    assert f"{TABLE}: differs from what the records give" in check(results)


def test_figure_of_another_matplotlib_is_compared_by_what_it_shows(results: Path) -> None:
    build(results)
    path = results / f"{FIGURE}.svg"
    text = path.read_text()
    start = text.index("matplotlib ", text.index("mach-bench report"))
    version = text[start : text.index(";", start)]
    redrawn = text.replace(version, "matplotlib 0.0.1") + "<!-- drawn elsewhere -->"
    path.write_text(redrawn)
    assert check(results) == []
    facts = redrawn.index("facts ") + len("facts ")
    path.write_text(redrawn[:facts] + "0" * 16 + redrawn[facts + 16 :])
    assert check(results) == [f"{FIGURE}.svg: differs from what the records give"]


def test_torn_line_is_reported_and_the_rest_rendered(results: Path) -> None:
    path = results / "records/imaginary/imaginary-2c.jsonl"
    path.write_text(path.read_text() + '{"schema": 1, "study": "imag')
    build(results)
    (problem,) = check(results)
    assert problem.startswith("records/imaginary/imaginary-2c.jsonl:")
    assert "torn" in problem


def test_other_schema_is_reported(results: Path) -> None:
    path = results / "records/imaginary/imaginary-2c.jsonl"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 7', 1))
    with pytest.raises(SchemaError):
        build(results)
    (problem,) = check(results)
    assert "schema 7" in problem


def test_superseded_record_is_not_counted(tmp_path: Path, install_view: Callable) -> None:
    first, second = (
        record(trial("full_softmax", chunk_size=None), status=s) for s in ("error", "done")
    )
    write(tmp_path / "results", [first, second])
    build(tmp_path / "results")
    text = (tmp_path / "results" / TABLE).read_text()
    assert "| error |" not in text
    assert "| 1 |" in text
    assert check(tmp_path / "results") == []


def test_machines_have_tables_of_their_own(tmp_path: Path, install_view: Callable) -> None:
    results = tmp_path / "results"
    write(results, [record(trial("full_softmax", chunk_size=None))], "small-2c")
    big = {**MACHINE, "cpu": "Imaginary CPU XL", "num_cores": 64}
    write(results, [record(trial("full_softmax", chunk_size=None), machine=big)], "big-64c")
    build(results)
    small = (results / "tables/imaginary/small-2c.md").read_text()
    large = (results / "tables/imaginary/big-64c.md").read_text()
    assert "CPU XL" not in small
    assert "CPU 9000" not in large
    assert check(results) == []


def test_file_that_mixes_machines_or_studies_is_reported(
    tmp_path: Path, install_view: Callable
) -> None:
    results = tmp_path / "results"
    other = record(
        trial("full_softmax", chunk_size=64), machine={**MACHINE, "num_cores": 4}, study="elsewhere"
    )
    write(results, [record(trial("full_softmax", chunk_size=None)), other])
    build(results)
    assert check(results) == [
        "records/imaginary/imaginary-2c.jsonl: holds records of study 'elsewhere'",
        "records/imaginary/imaginary-2c.jsonl: mixes 2 machines",
    ]


def test_stale_records_are_marked_and_reported(results: Path, install_view: Callable) -> None:
    install_view(is_stale=lambda raw: raw["settings"]["model"]["method"] == "frequency")
    build(results)
    assert "Class frequency†" in (results / TABLE).read_text()
    assert check(results) == [
        "records/imaginary/imaginary-2c.jsonl: 1 configuration of frequency measured with code "
        "that has changed since"
    ]


def test_missing_and_dropped_trials_are_told(tmp_path: Path, install_view: Callable) -> None:
    kept, dropped, missing = trial("frequency"), trial("centroid"), trial("mach", num_buckets=4)
    wanted = frozenset({kept.trial_id, missing.trial_id})
    install_view(StudyView(name="imaginary", trial_ids=wanted, expected={"cpu": wanted}))
    write(tmp_path / "results", [record(kept), record(dropped)])
    build(tmp_path / "results")
    text = (tmp_path / "results" / TABLE).read_text()
    assert "1 of the study's trials have no record on this machine" in text
    assert "Left out: 1 trials" in text


def test_readme_block_is_refreshed_and_checked(results: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("# Top\n\n<!-- table: imaginary -->\nold\n<!-- end -->\n\nBottom\n")
    assert readme in build(results)
    text = readme.read_text()
    assert text.startswith("# Top\n")
    assert text.endswith("<!-- end -->\n\nBottom\n")
    assert "| Full softmax |" in text
    assert "old" not in text
    assert check(results) == []
    readme.write_text(text.replace("| Full softmax |", "| Fuller softmax |", 1))
    assert check(results) == ["README.md: the table of imaginary is not that of the records"]


def test_overview_chooses_by_validation_and_is_checked(tmp_path: Path, install_view) -> None:
    install_view(StudyView(name="imaginary"))
    rows = [
        (trial("mach", num_buckets=64, num_worlds=4), 0.30, 0.35),
        (trial("mach", num_buckets=256, num_worlds=4), 0.32, 0.31),  # better on test alone
        (trial("full_softmax", chunk_size=None), 0.25, 0.40),
        (trial("centroid"), 0.31, None),
    ]
    records = []
    for of, test, validation in rows:
        made = changed(record(of), test, "test", "P@1")
        if validation is not None:
            curve = [{"metrics": {"P@1": 0.99}}, {"metrics": {"P@1": validation}}]
            made = changed(made, curve, "training", "curve")
        made = changed(made, 5_000_000, "memory", "parameter_bytes")
        records.append(changed(made, 0, "memory", "decode_bytes"))
    results = tmp_path / "results"
    write(results, records)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- overview: imaginary nowhere -->\nold\n<!-- end -->\n")
    build(results)
    line = readme.read_text().splitlines()[4]
    assert line == (
        "| `imaginary`, L = 20,000 | 25.0 (5.00 MB) | – | 30.0 (5.00 MB) | **31.0** (5.00 MB) | – |"
    )
    assert check(results) == []
    readme.write_text(readme.read_text().replace("30.0", "32.0"))
    assert check(results) == [
        "README.md: the table of imaginary nowhere is not that of the records"
    ]


def test_readme_marker_may_ask_for_one_of_the_tables(results: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("<!-- table: imaginary | all -->\n<!-- end -->\n")
    build(results)
    titles = [line for line in readme.read_text().splitlines() if line.startswith("**imaginary")]
    assert titles == ["**imaginary · all, L = 83,071, D = 89,822, N = 608,623**"]
    assert check(results) == []


def test_kind_of_study_without_tables_is_an_error() -> None:
    with pytest.raises(StudyError, match="'sleeping'; known: training, decoding"):
        rendering_of(dataclasses.replace(TRAINING, name="sleeping"))


def test_build_elsewhere_leaves_the_readme_alone(results: Path, tmp_path: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("<!-- table: imaginary -->\nold\n<!-- end -->\n")
    build(results, tmp_path / "out")
    assert "old" in readme.read_text()
    assert not (results / "tables").exists()


def test_study_without_records_is_an_error(results: Path, install_view: Callable) -> None:
    install_view(StudyView(name="nowhere"))
    with pytest.raises(StudyError, match="nowhere"):
        build(results, studies=["nowhere"])


def test_empty_results_folder_gives_nothing(tmp_path: Path, install_view: Callable) -> None:
    assert build(tmp_path) == []
    assert check(tmp_path) == []


def test_report_never_imports_torch(tmp_path: Path) -> None:
    trials = [trial("full_softmax", chunk_size=None), trial("mach", num_buckets=64, num_worlds=4)]
    write(tmp_path / "results", [record(t) for t in trials])
    code = (
        "import sys; from pathlib import Path; import bench.report; "
        f"paths = bench.report.build(Path({str(tmp_path / 'results')!r})); "
        f"bench.report.check(Path({str(tmp_path / 'results')!r})); "
        "assert len(paths) > 5; "
        "print(sorted({'torch', 'lightning', 'torchmetrics'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "[]\n"
