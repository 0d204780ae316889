"""Every single value of real lines changed: nothing may be taken for what it is not, or raise."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import msgspec
import pytest

from bench.cli.commands import main
from bench.report.load import find_study, load_machine, trials_of
from bench.report.readme import read_audits
from bench.report.renderers import rendering_of
from bench.store import costs, record
from bench.store.budgets import BudgetError, read_budgets
from bench.store.lines import RecordError
from bench.store.record import SchemaError

RESULTS = Path(__file__).parent.parent / "results"
DEEP = json.loads("[" * 100 + "]" * 100)
HUGE = 10**400
WRONG = ("nan", True, 0.5, -1, HUGE, None, [[3]], {"a": {"b": 1}}, DEEP, "\ud800", float("nan"))
# What a later version or somebody's own method may fill as it likes.
FREE = re.compile(
    r"resolved\..*|data\.corpus_matches_constraints|rows\.0\.inference\..*"
    r"|budgets\.0\.measured\..*"
)


def first_line(kind, study, method=None):
    path, *_ = sorted((RESULTS / kind / study).glob("*.jsonl"), reverse=True)  # without a host's id
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    if method is None:
        return next(lines)
    return next(line for line in lines if line["settings"]["model"]["method"] == method)


def cost_line():
    line = first_line("costs", "quickstart")
    line["rows"] = line["rows"][:3]
    for visit in (visit for row in line["rows"] for visit in row["visits"]):
        for phase in visit["phases"].values():
            phase["seconds"] = phase["seconds"][:2]
    return line


LINES = {
    "mach": lambda: first_line("records", "quickstart", "mach"),
    "sampled_bce": lambda: first_line("records", "delicious", "sampled_bce"),
    "moments": lambda: first_line("records", "figure-theory", "moments"),
    "pairs": lambda: first_line("records", "figure-theory", "pairs"),
    "reconstruction": lambda: first_line("records", "figure-quadratic"),
    "counted": lambda: first_line("records", "table-claims", "counted"),
    "costs": cost_line,
}


def paths_of(value, path=()):
    """Paths to all values; to the first one of a list, and to two of many equal in kind."""
    if path:
        yield path
    if isinstance(value, list):
        yield from paths_of_items(enumerate(value[:1]), path)
    elif isinstance(value, dict):
        items = list(value.items())
        alike = len(items) > 3 and len({type(item) for _, item in items}) == 1
        yield from paths_of_items(items[:2] if alike else items, path)


def paths_of_items(items, path):
    for key, item in items:
        yield from paths_of(item, (*path, key))


def changed(line, path, value):
    line = copy.deepcopy(line)
    inner = line
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return line


def old_value(line, path):
    for key in path:
        line = line[key]
    return line


def is_of_its_kind(old, new):
    """Whether a value may stand where another one does: of its type, or missing."""
    if new is None or old is None:
        return True
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, float) and isinstance(new, int):
        return True
    return isinstance(new, type(old))


def changes_of(line):
    """Path and text of each line with one value changed."""
    for path in paths_of(line):
        for value in WRONG:
            if value != old_value(line, path) or isinstance(value, bool):
                yield path, value, json.dumps(changed(line, path, value))


@pytest.fixture(scope="module", params=LINES)
def taken(request):
    """A real line, and those with one value changed that are read without a warning."""
    line = LINES[request.param]()
    parse = costs._own if request.param == "costs" else record._own
    kept = []
    for path, value, text in changes_of(line):
        try:
            parse(msgspec.json.decode(text))
        except (RecordError, msgspec.DecodeError) as error:
            assert len(str(error)) < 1000  # noqa: PT017
        else:
            kept.append((path, value, text))
    return request.param, line, kept


def test_no_value_is_taken_for_one_of_another_type(taken):
    _, line, kept = taken
    for path, value, _ in kept:
        where = ".".join(map(str, path))
        if not FREE.fullmatch(where):
            assert is_of_its_kind(old_value(line, path), value), f"{where}: {value!r}"
            assert value not in (HUGE, "\ud800")


def test_no_bytes_seconds_counts_or_shares_are_negative(taken):
    _, _, kept = taken
    for path, value, _ in kept:
        where = ".".join(map(str, path))
        is_signed = re.search(r"test\.|loss|curves|standard|resolved|inference", where)
        is_share = re.search(r"@|top-", where)
        is_free = FREE.fullmatch(where) or (is_signed and not is_share)
        assert value != -1 or is_free, where


def test_tables_and_figures_of_what_is_read_are_built(taken, tmp_path):
    name, line, kept = taken
    study = find_study(line["study"])
    trials = trials_of(study)
    folder = tmp_path / ("costs" if name == "costs" else "records") / line["study"]
    folder.mkdir(parents=True)
    if name == "costs":
        beside = (tmp_path / "records" / line["study"]) / "m.jsonl"
        beside.parent.mkdir(parents=True)
        beside.write_text(json.dumps(LINES["mach"]()) + "\n", encoding="utf-8")
    for path, value, text in kept:
        (folder / "m.jsonl").write_text(text + "\n", encoding="utf-8")
        try:
            rendering = rendering_of(study)
            results = load_machine(tmp_path, study, "m", trials)
            list(rendering.plots(results.sections))
            for section in results.sections:
                rendering.build_table(section)
        except Exception as error:
            error.add_note(f"{'.'.join(map(str, path))} = {value!r}")
            raise


def test_commands_name_the_bad_lines_and_go_on(tmp_path, monkeypatch, capsys):
    study = "table-claims"
    [source] = (RESULTS / "records" / study).glob("*.jsonl")
    kept = source.read_text(encoding="utf-8")
    line = json.loads(kept.splitlines()[0])
    bad = [text for path, _, text in changes_of(line) if path != ("schema",)]
    target = tmp_path / "results" / "records" / study / source.name
    target.parent.mkdir(parents=True)
    target.write_text("\n".join([*bad, kept]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.store.provenance.machine_slug", lambda machine: source.stem)
    assert main(["run", study, "--dry-run", "--results", "results"]) == 0
    captured = capsys.readouterr()
    assert f"{source.name}:2: line ignored: " in captured.err
    assert main(["check", "--results", "results"]) == 1
    assert f"records/{study}/{source.name}:2: line ignored: " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["3", -1, HUGE, True, None, 2.0])
def test_another_schema_or_none_is_a_sentence(value, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(changed(LINES["counted"](), ("schema",), value)), encoding="utf-8")
    try:
        records, [warning] = record.read(path)
    except SchemaError as error:
        assert f"{path}:1: record has schema" in str(error)  # noqa: PT017
    else:
        assert records == []
        assert f"{path}:1: line ignored: 'schema' is" in warning


def test_audits_are_checked(tmp_path):
    [source] = (RESULTS / "audits").glob("*.jsonl")
    line = json.loads(source.read_text(encoding="utf-8").splitlines()[0])
    path = tmp_path / "a.jsonl"
    for where, value, text in changes_of(line):
        path.write_text(text, encoding="utf-8")
        for kept in read_audits(path)[0]:
            assert is_of_its_kind(old_value(line, where), kept[where[0]]), (where, value)


def test_budgets_are_checked(tmp_path):
    whole = json.loads((RESULTS / "budgets" / "delicious.json").read_text(encoding="utf-8"))
    path = tmp_path / "b.json"
    for where, value, text in changes_of(whole):
        path.write_text(text, encoding="utf-8")
        try:
            kept = read_budgets(path)
        except BudgetError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        name = ".".join(map(str, where))
        assert FREE.fullmatch(name) or is_of_its_kind(old_value(whole, where), value), (name, value)
        assert all(budget.num_steps >= 1 for budget in kept.values())
