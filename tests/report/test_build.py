from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_records as made
from conftest import Install
from synthetic_decoding import STUDY, decode_grid
from synthetic_records import MACHINE, changed, record, trial, write

from bench.errors import StudyError
from bench.report.check import check
from bench.report.plots import decode
from bench.report.renderers import rendering_of
from bench.report.write import build
from bench.store.files import replace_file
from bench.store.record import SchemaError

TABLE = "tables/imaginary/imaginary-2c.md"
FIGURE = "figures/imaginary/imaginary-2c/memory-parts-small"
RECORDS = "records/imaginary/imaginary-2c.jsonl"
COSTS = "costs/imaginary/imaginary-2c.jsonl"
PLAIN = trial("full_softmax", chunk_size=None)


def _problems(results: Path) -> list[str]:
    return list(check(results).problems)


def _reverse(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[::-1]) + "\n")


def test_rebuild_gives_the_same_bytes_in_whatever_order_lines_are(
    results: Path, tmp_path: Path
) -> None:
    first = build(results, tmp_path / "a")
    _reverse(results / RECORDS)
    _reverse(results / COSTS)
    second = build(results, tmp_path / "b")
    assert [p.relative_to(tmp_path / "a") for p in first] == [
        p.relative_to(tmp_path / "b") for p in second
    ]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_edited_missing_and_extra_files_are_found(results: Path) -> None:
    build(results)
    assert _problems(results) == []
    table = results / TABLE
    table.write_text(table.read_text().replace("Full softmax", "Best softmax", 1))
    (results / f"{FIGURE}.svg").unlink()
    (results / "tables/imaginary/other.md").write_text("made by hand")
    assert _problems(results) == [
        f"{FIGURE}.svg: missing; run the report",
        "tables/imaginary/other.md: no record accounts for it",
        f"{TABLE}: differs from what the records give",
    ]


@pytest.mark.parametrize("kind", ["records", "costs"])
def test_new_line_makes_tables_outdated(results: Path, kind: str) -> None:
    build(results)
    extra = trial("mach", data="all", num_buckets=256, num_worlds=8)
    costs = made.cost_line([made.cost_row(extra, {"train": (9.0, 1)})], started_at="2031-01-01")
    line = costs if kind == "costs" else record(trial("mach", **{**extra.model.options, "x": 1}))
    with (results / kind / "imaginary/imaginary-2c.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert f"{TABLE}: differs from what the records give" in _problems(results)


def test_hosts_of_a_kind_share_a_table_whose_costs_are_of_one(results: Path) -> None:
    build(results)
    before = (results / TABLE).read_text()
    for name in (RECORDS, COSTS):
        path = results / name
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:1]) if name == RECORDS else "".join(lines))
        others = lines[1:] if name == RECORDS else lines
        path.with_stem(f"{path.stem}-0abcde").write_text("".join(others))
    assert {path.name for path in build(results)} >= {Path(TABLE).name}
    after = (results / TABLE).read_text()
    assert "of timing on other hosts of this kind." in after
    assert [line for line in after.splitlines() if line.startswith("|")] == [
        line for line in before.splitlines() if line.startswith("|")
    ]
    assert _problems(results) == []
    path = (results / RECORDS).with_stem("imaginary-2c-1abcde")
    line = json.loads((results / RECORDS).read_text().splitlines()[0])
    line["test"]["P@1"] += 1e-9
    path.write_text(json.dumps(line) + "\n")
    build(results)
    (problem,) = _problems(results)
    assert "records/imaginary/imaginary-2c.jsonl: trial" in problem
    assert "differs from that in records/imaginary/imaginary-2c-1abcde.jsonl" in problem


def test_figure_of_another_matplotlib_is_compared_by_what_it_shows(results: Path) -> None:
    build(results)
    path = results / f"{FIGURE}.svg"
    text = path.read_text()
    start = text.index("matplotlib ", text.index("mach-bench report"))
    version = text[start : text.index(";", start)]
    redrawn = text.replace(version, "matplotlib 0.0.1") + "<!-- drawn elsewhere -->"
    path.write_text(redrawn)
    assert _problems(results) == []
    facts = redrawn.index("facts ") + len("facts ")
    path.write_text(redrawn[:facts] + "0" * 16 + redrawn[facts + 16 :])
    assert _problems(results) == [f"{FIGURE}.svg: differs from what the records give"]


@pytest.mark.parametrize("name", [RECORDS, COSTS])
def test_torn_line_and_other_schema_are_reported(results: Path, name: str) -> None:
    path = results / name
    whole = path.read_text()
    path.write_text(whole + '{"schema": 2, "study": "imag')
    build(results)
    (problem,) = _problems(results)
    assert re.match(f"{name}:.*torn", problem)
    path.write_text(whole.replace('"schema": 2', '"schema": 7', 1))
    with pytest.raises(SchemaError):
        build(results)
    (problem,) = _problems(results)
    assert re.match(f"{name}:.*schema 7", problem)


@pytest.mark.parametrize("name", [RECORDS, COSTS])
def test_unreadable_lines_are_warned_of_and_counted_below_the_tables(
    results: Path, name: str
) -> None:
    readme = results.parent / "README.md"
    readme.write_text("<!-- table: imaginary -->\n<!-- end -->\n")
    path = results / name
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([first[:-9], *others, "no JSON"]) + "\n")
    warnings: list[str] = []
    build(results, warn=warnings.append)
    assert [text.partition(": ")[0] for text in warnings] == [
        f"{path}:1",
        f"{path}:{len(others) + 2}",
    ]
    for page in (results / TABLE, readme):
        assert page.read_text().count("2 unreadable lines left out.") == 1


def test_a_session_in_which_a_row_failed_replaces_no_complete_one(tmp_path: Path) -> None:
    good, bad = trial("full_softmax"), trial("mach", num_buckets=4, num_worlds=2)
    rows = [made.cost_row(of, made.phases_of(of)) for of in (good, bad)]
    failed = [rows[0], {**rows[1], "status": "error", "reason": "killed", "visits": []}]
    lines = [made.cost_line(rows), made.cost_line(failed, started_at="2030-01-06T00:00:00Z")]
    results = tmp_path / "results"
    for count in (1, 2):
        write(results, [record(good), record(bad)], lines[:count])
        build(results)
        text = (results / TABLE).read_text()
        assert "2030-01-05" in text
        assert "2030-01-06" not in text
        assert ("Left out: 1 later session of timing" in text) == (count == 2)
    write(results, [record(good), record(bad)], lines[1:])
    build(results)
    assert "2030-01-06" in (results / TABLE).read_text()


def test_broken_budgets_are_reported(results: Path) -> None:
    build(results)
    path = results / "budgets/imaginary.json"
    path.parent.mkdir()
    path.write_text('{"schema": 1, "budgets": [{"num_steps": 0}]}')
    (problem,) = _problems(results)
    assert problem.startswith("budgets/imaginary.json:")


def test_folder_without_records_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert _problems(tmp_path / name) == [f"{name}: holds no records"]


def test_machines_have_tables_of_their_own(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write(results, [record(PLAIN)], machine="small-2c")
    big = {**MACHINE, "cpu": "Imaginary CPU XL", "num_cores": 64}
    write(results, [record(PLAIN, machine=big)], machine="big-64c")
    build(results)
    assert "CPU XL" not in (results / "tables/imaginary/small-2c.md").read_text()
    assert "CPU 9000" not in (results / "tables/imaginary/big-64c.md").read_text()
    assert _problems(results) == []


def test_machine_of_which_trivial_rows_alone_are_left_is_not_shown(tmp_path: Path) -> None:
    trivial = record(trial("centroid"), machine={**MACHINE, "num_cores": 64})
    alone, both = tmp_path / "alone", tmp_path / "both"
    for results in (alone, both):
        write(results, [trivial], machine="big-64c")
    write(both, [record(PLAIN)], machine="small-2c")
    shown = [
        {path.stem for path in build(results) if path.suffix == ".md"} for results in (alone, both)
    ]
    assert shown == [{"big-64c"}, {"small-2c"}]


def test_file_that_mixes_machines_or_studies_is_reported(tmp_path: Path) -> None:
    results = tmp_path / "results"
    four = {**MACHINE, "num_cores": 4}
    other = record(trial("full_softmax", chunk_size=64), machine=four, study="elsewhere")
    cost = made.costs_of([PLAIN])
    write(results, [record(PLAIN), other], [*cost, changed(cost[0], four, "provenance", "machine")])
    build(results)
    assert _problems(results) == [
        f"{RECORDS}: holds lines of study 'elsewhere'",
        f"{RECORDS}: mixes 2 machines",
        f"{COSTS}: mixes 2 machines",
    ]


def test_stale_record_is_noted_but_fails_in_the_readme_alone(results: Path) -> None:
    path = results / RECORDS
    old = record(trial("frequency", encoder="linear"), version=0)
    path.write_text(path.read_text() + json.dumps(old) + "\n")
    build(results)
    assert "Class frequency†" in (results / TABLE).read_text()
    found = check(results)
    assert found.problems == ()
    assert found.notes == (
        "imaginary on imaginary-2c: 1 configuration of frequency made by older versions (†)",
    )
    (results.parent / "README.md").write_text("<!-- table: imaginary -->\n<!-- end -->\n")
    build(results)
    assert _problems(results) == [
        "README.md: the table of imaginary shows rows of older versions (†)"
    ]


def test_missing_dropped_and_superseded_trials_are_told_apart(
    tmp_path: Path, install_study: Install
) -> None:
    kept, dropped, missing = trial("frequency"), trial("centroid"), trial("mach", num_buckets=4)
    install_study(made.study(trials=lambda profile: [kept, missing], profiles=("cpu",)))
    write(tmp_path / "results", [record(kept, status="error"), record(kept), record(dropped)])
    build(tmp_path / "results")
    text = (tmp_path / "results" / TABLE).read_text()
    assert "| error |" not in text  # superseded
    assert "| 1 |" in text
    assert "1 of the study's trials has no record on this machine" in text
    assert "Left out: 1 trial that" in text


def test_readme_blocks_are_refreshed_and_checked(results: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text(
        "# Top\n\n<!-- table: imaginary -->\nstale text\n<!-- end -->\n"
        "<!-- table: imaginary | all -->\nstale text\n<!-- end -->\n\n"
        "<!-- audits -->\n<!-- end -->\n"
    )
    assert readme in build(results)
    text = readme.read_text()
    assert text.startswith("# Top\n")
    assert "| Full softmax |" in text
    assert "stale text" not in text
    assert text.count("**imaginary · all, L = 83,071, D = 89,822, N = 608,623**") == 2
    assert text.endswith("<!-- audits -->\n*Not audited yet.*\n<!-- end -->\n")
    assert _problems(results) == []
    readme.write_text(text.replace("| Full softmax |", "| Fuller softmax |", 1))
    assert _problems(results) == ["README.md: the table of imaginary is not that of the records"]


def test_readme_counts_the_last_audit_of_each_record(results: Path) -> None:
    build(results)
    outcomes = [("a", "differs"), ("a", "found"), ("b", "found"), ("c", "failed")]
    lines = [
        {"at": "2030-01-01", "study": "imaginary", "trial_id": one, "outcome": outcome}
        for one, outcome in outcomes
    ]
    (results / "audits").mkdir()
    path = results / "audits/imaginary-2c.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    readme = results.parent / "README.md"
    readme.write_text("<!-- audits -->\n<!-- end -->\n")
    build(results)
    assert "2 of 3 audited quality records found again." in readme.read_text()
    path.write_text(path.read_text() + '{"study": 1}\n')
    build(results)
    assert "found again. 1 unreadable line left out." in readme.read_text()
    (problem,) = _problems(results)
    assert problem.startswith("audits/imaginary-2c.jsonl:5:")


def test_overview_chooses_by_validation(tmp_path: Path) -> None:
    rows = [
        (trial("mach", num_buckets=64, num_worlds=4), 0.30, 0.35),
        (trial("mach", num_buckets=256, num_worlds=4), 0.32, 0.31),  # better on test alone
        (PLAIN, 0.25, 0.40),
        (trial("centroid"), 0.31, None),
        (trial("frequency"), 0.01, None),  # in no group
    ]
    records = [record(of, accuracy=test, validation=at_end) for of, test, at_end in rows]
    records = [changed(made_, 5_000_000, "memory", "parameter_bytes") for made_ in records]
    results = tmp_path / "results"
    write(results, [changed(made_, 0, "memory", "decode_bytes") for made_ in records])
    readme = tmp_path / "README.md"
    readme.write_text("<!-- overview: imaginary nowhere -->\nold\n<!-- end -->\n")
    build(results)
    lines = readme.read_text().splitlines()
    assert lines[2] == ("| study | all labels: softmax or one-vs-all | MACH | nearest centroid |")
    assert (
        lines[4] == "| imaginary, L = 20,000 | 25.0 (5.00 MB) | 30.0 (5.00 MB) | 31.0 (5.00 MB) |"
    )
    assert _problems(results) == []
    readme.write_text(readme.read_text().replace("30.0", "32.0"))
    assert _problems(results) == [
        "README.md: the overview of imaginary nowhere is not that of the records"
    ]


def test_leaders_say_how_settings_were_found(results: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("<!-- leaders: imaginary -->\n<!-- end -->\n")
    build(results)
    assert "Settings: not tuned." in readme.read_text()
    outcome = results / "tuned" / "imaginary.json"
    outcome.parent.mkdir()
    shutil.copy(Path(__file__).parents[2] / "results" / "tuned" / "delicious.json", outcome)
    assert any("the leaders of imaginary" in problem for problem in _problems(results))
    build(results)
    assert "Settings: 18 tries of 10 s a method." in readme.read_text()


def test_kind_of_study_chooses_the_tables(
    tmp_path: Path, install_study: Install, monkeypatch
) -> None:
    monkeypatch.setattr(decode, "FIGURES", {"decode-memory": decode.decode_memory})
    install_study(STUDY)
    records, costs = decode_grid(kinds=["uniform", "peak 0.5"], sizes=[10_000])
    write(tmp_path / "results", records, costs)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- table: imaginary | k = 5 · uniform -->\n<!-- end -->\n")
    paths = build(tmp_path / "results")
    assert tmp_path / "results/figures/imaginary/imaginary-2c/decode-memory.svg" in paths
    assert _problems(tmp_path / "results") == []
    text = readme.read_text()
    assert "**imaginary · k = 5 · uniform**" in text
    assert "labels scored %" in text
    assert "peak 0.5" not in text
    with pytest.raises(StudyError, match="'sleeping'; known: training, decoding"):
        rendering_of(made.study(shown_as="sleeping"))


def test_build_elsewhere_leaves_the_readme_alone(results: Path, tmp_path: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("<!-- table: imaginary -->\nold\n<!-- end -->\n")
    build(results, tmp_path / "out")
    assert "old" in readme.read_text()
    assert not (results / "tables").exists()


def test_study_without_records_is_an_error(results: Path, install_study: Install) -> None:
    install_study(dataclasses.replace(made.STUDY, name="nowhere"))
    with pytest.raises(StudyError, match="nowhere"):
        build(results, studies=["nowhere"])


def test_file_that_cannot_be_written_completely_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.md"
    replace_file(path, b"old")
    path.chmod(0o640)

    def full_disk(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    replace_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


def test_report_imports_neither_torch_nor_the_runner(tmp_path: Path) -> None:
    trials = [PLAIN, trial("mach", num_buckets=64, num_worlds=4)]
    write(tmp_path / "results", [record(t) for t in trials], made.costs_of(trials))
    code = (
        "import sys; from pathlib import Path; "
        "from bench.report.check import check; from bench.report.write import build; "
        "from bench.report.tables.comparison import terminal_summary; "
        f"results = Path({str(tmp_path / 'results')!r}); "
        "assert len(build(results)) > 5; "
        "check(results); "
        "print(terminal_summary(results, results, 'imaginary', 80)); "
        "unwanted = {'torch', 'lightning', 'torchmetrics', 'bench.runner.run'}; "
        "assert not unwanted & set(sys.modules), unwanted & set(sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "2 of 2 rows reproduced (2 identical)." in answer.stdout
