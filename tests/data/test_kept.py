from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.cli.commands import main
from bench.data import cache, kept
from bench.data.cache import Entry, load_or_build
from bench.data.prepared import load_dataset
from bench.settings import DataSpec
from tests.data.rows import planted

DAY = 86_400.0


def entry(folder: Path, key: str, *, days: float = 0.0, size: int = 1000) -> Path:
    """An entry of some kilobytes that was last used so long ago."""
    load_or_build(folder, key, lambda: Entry({"a": np.zeros(size, np.uint8)}, {}))
    os.utime(folder / key, (time.time() - days * DAY,) * 2)
    return folder / key


def test_entries_are_listed_with_size_age_and_what_they_are(tmp_path, capsys):
    spec = DataSpec(
        source="planted", name="p", options=planted(50, 9, 80, 5), num_validation_points=5
    )
    load_dataset(spec, tmp_path, tmp_path)
    entry(tmp_path / "weights", "w", days=3, size=2_500_000)
    found = kept.kept(tmp_path)
    assert [each.kind for each in found] in (
        ["prepared", "read", "weights"], ["read", "prepared", "weights"])  # fmt: skip
    by_kind = {each.kind: each for each in found}
    assert by_kind["prepared"].what == "planted, N = 45, D = 80, L = 5"
    assert by_kind["read"].what == "planted, N = 50, D = 80, L = 5"
    assert by_kind["weights"].num_bytes == sum(
        path.stat().st_size for path in (tmp_path / "weights" / "w").iterdir()
    )
    assert main(["cache", "--cache-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["weights", "2.5", "MB", "3", "d", "w"]
    assert lines[-1].startswith(f"{tmp_path} keeps 2.5 MB, and 0.0 MB of logs")


def test_an_entry_is_younger_once_it_is_opened(tmp_path):
    entry(tmp_path, "old", days=9)
    assert cache.read(tmp_path / "old") is not None
    assert time.time() - kept.kept(tmp_path)[0].used_at < 60


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older", "2d"], {"new", "mid"}),
        (["--older", "12h"], {"new"}),
        (["--over", "0.025MB"], {"new", "mid"}),
        (["--over", "0.015MB"], {"new"}),
        (["--over", "1GB"], {"new", "mid", "old"}),
        (["--over", "1GB", "--older", "2d"], {"new", "mid"}),
    ],
)
def test_pruning_takes_what_is_old_or_beyond_a_size(tmp_path, capsys, options, left):
    for key, days in (("old", 3), ("new", 0), ("mid", 1)):
        entry(tmp_path, key, days=days, size=10_000)
    command = ["cache", "--cache-dir", str(tmp_path), *options]
    assert main(command) == 0
    assert {each.folder.name for each in kept.kept(tmp_path)} == {"old", "mid", "new"}
    assert f"{3 - len(left)} entries would be taken away by --prune" in capsys.readouterr().out
    assert main([*command, "--prune"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == left
    assert f"{3 - len(left)} entries taken away" in capsys.readouterr().out


def test_what_is_asked_of_prune_must_make_sense(tmp_path, capsys):
    assert main(["cache", "--cache-dir", str(tmp_path), "--prune"]) == 2
    assert "--older or --over" in capsys.readouterr().err
    for option, value in (("--older", "30"), ("--older", "-1d"), ("--over", "10"), ("--over", "x")):
        with pytest.raises(SystemExit):
            main(["cache", f"{option}={value}"])
        assert f"{value!r}; expected a" in capsys.readouterr().err


def test_what_this_process_reads_stays_until_its_last_array_is_gone(tmp_path):
    entry(tmp_path, "key")
    opened = cache.read(tmp_path / "key")
    assert opened is not None
    part = opened.arrays["a"][10:20].reshape(2, 5)
    del opened
    assert not cache.remove_unused(tmp_path / "key")
    assert part.sum() == 0
    del part
    assert cache.remove_unused(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


READ = """
import sys
from pathlib import Path
from bench.data.cache import read
array = read(Path(sys.argv[1])).arrays["a"]
print("open", flush=True)
sys.stdin.read()
print(int(array.sum()))
"""


def test_what_another_process_reads_stays_and_is_taken_once_it_ends(tmp_path):
    folder = entry(tmp_path, "key", days=9)
    reader = subprocess.Popen(
        [sys.executable, "-c", READ, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    assert kept.prune(kept.kept(tmp_path)) == []
    assert cache.read(folder) is not None
    assert reader.communicate("")[0] == "0\n"
    assert [each.folder for each in kept.prune(kept.kept(tmp_path))] == [folder]
    assert not folder.exists()


def test_what_is_being_built_again_stays(tmp_path):
    folder = entry(tmp_path, "key")
    with cache._building(tmp_path, "key"):
        assert not cache.remove_unused(folder)
    assert cache.remove_unused(folder)


def test_an_entry_that_is_being_taken_away_is_built_again(tmp_path, monkeypatch):
    folder = entry(tmp_path, "key")
    built = []

    def rename_and_read(path: Path, target: Path) -> Path:
        assert cache.read(folder) is None  # its remover has it alone
        return move(path, target)

    move = Path.rename
    monkeypatch.setattr(Path, "rename", rename_and_read)
    assert cache.remove_unused(folder)
    monkeypatch.undo()
    load_or_build(tmp_path, "key", lambda: built.append(1) or Entry({}, {"a": 1}))  # type: ignore[func-returns-value]
    assert built == [1]


def test_damaged_entries_are_not_listed(tmp_path):
    entry(tmp_path, "key")
    (tmp_path / "key" / "meta.json").write_text(json.dumps([1]))
    assert kept.kept(tmp_path) == []
