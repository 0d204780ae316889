from __future__ import annotations

import json
import subprocess

import pytest

from bench import provenance


def test_provenance_names_code_software_and_machine_but_no_host_and_no_path():
    block = provenance.collect(accelerator=None)
    assert set(block["packages"]) == set(provenance.PACKAGES)
    assert all(block["packages"].values())
    assert set(block["machine"]) == {"cpu", "num_cores", "memory_bytes", "accelerator"}
    assert block["machine"]["num_cores"] >= 1
    assert "/" not in json.dumps(block | {"machine": None})


def test_commit_is_none_outside_of_git(tmp_path):
    assert provenance.git_state(tmp_path) == (None, None)


def git(folder, *arguments):
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "code.py").write_text("x = 1\n")
    for arguments in (["init"], ["add", "."], ["commit", "-m", "First"]):
        git(tmp_path, *arguments)
    return tmp_path


def test_a_checkout_is_dirty_by_its_code_and_not_by_what_a_run_writes(repository):
    commit, is_dirty = provenance.git_state(repository)
    assert len(commit) == 40
    assert is_dirty is False
    (repository / "README.md").write_text("tables")
    (repository / "results").mkdir()
    (repository / "results" / "r.jsonl").write_text("{}")
    assert provenance.git_state(repository) == (commit, False)
    (repository / "code.py").write_text("x = 2\n")
    assert provenance.git_state(repository) == (commit, True)


def test_another_repository_is_not_taken_for_the_projects_own(repository, tmp_path, monkeypatch):
    copy = repository / "vendored"
    copy.mkdir()
    assert provenance.git_state(copy) == (None, None)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    assert provenance.git_state(outside) == (None, None)


@pytest.mark.parametrize(
    ("cpu", "accelerator", "slug"),
    [
        ("AMD EPYC", None, "amd-epyc-2c-24g"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", None, "intel-xeon-2c-24g"),
        ("AMD EPYC 7B13 64-Core Processor", "NVIDIA H200", "amd-epyc-7b13-2c-24g-nvidia-h200"),
    ],
)
def test_machine_slug_is_a_short_file_name(cpu, accelerator, slug):
    machine = {
        "cpu": cpu,
        "num_cores": 2,
        "memory_bytes": 24 * 2**30 + 5,
        "accelerator": accelerator,
    }
    assert provenance.machine_slug(machine) == slug


def test_processor_name_falls_back_to_the_platform(tmp_path):
    assert provenance.cpu_model(tmp_path / "none")
    (tmp_path / "info").write_text("processor\t: 0\nmodel name\t: Some CPU\n")
    assert provenance.cpu_model(tmp_path / "info") == "Some CPU"
