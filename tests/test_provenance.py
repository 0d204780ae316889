from __future__ import annotations

import json
import subprocess

import pytest

from bench.measure import processors
from bench.store import provenance


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
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "code.py").write_text("x = 1\n")
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
    (repository / "bench" / "code.py").write_text("x = 2\n")
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


def arm(*cores):
    return "".join(
        f"processor\t: {i}\nCPU implementer\t: {maker}\nCPU architecture: 8\n"
        f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
        for i, (maker, part) in enumerate(cores)
    )


NAMED = {
    "x86": ("processor\t: 0\nmodel name\t: Some CPU\n", "Some CPU"),
    "Graviton 2": (arm(("0x41", "0xd0c")), "Arm Neoverse-N1"),
    "Graviton 3": (arm(("0x41", "0xd40")), "Arm Neoverse-V1"),
    "Phytium": (arm(("0x70", "0x662")), "Phytium part 0x662"),
    "M1": (arm(("0x61", "0x022"), ("0x61", "0x023")), "Apple M1"),
    "M2": (arm(("0x61", "0x032"), ("0x61", "0x033")), "Apple M2"),
    "two kinds": (
        arm(("0x41", "0xd08"), ("0x41", "0xd03"), ("0x41", "0xd08")),
        "Arm Cortex-A53, Arm Cortex-A72",
    ),
    "32 bits": ("model name\t: ARMv7 Processor rev 4\n" + arm(("0x41", "0xd08")), "Arm Cortex-A72"),
    "nobody's": (arm(("0x99", "0x1")), "implementer 0x99 part 0x001"),
    "POWER": ("processor\t: 0\ncpu\t\t: POWER9 (raw)\nclock\t: 3GHz\n", "POWER9 (raw)"),
    "RISC-V": ("processor\t: 0\nuarch\t\t: sifive,u74-mc\n", "sifive,u74-mc"),
}


@pytest.mark.parametrize("case", NAMED)
def test_processors_are_told_apart_by_what_the_kernel_says(tmp_path, monkeypatch, case):
    text, name = NAMED[case]
    (tmp_path / "info").write_text(text)
    monkeypatch.setattr(processors, "_CPUINFO", tmp_path / "info")
    assert processors.cpu_model() == name


def test_no_two_of_these_machines_share_a_slug(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "_CPUINFO", tmp_path / "info")
    slugs = set()
    for text, _ in NAMED.values():
        (tmp_path / "info").write_text(text)
        slugs.add(provenance.machine_slug(provenance.machine(accelerator=None)))
    assert len(slugs) == len(NAMED)
    assert not any(slug.startswith(("aarch64", "arm-2c", "x86")) for slug in slugs)


def test_a_mac_says_what_its_processor_is_called(tmp_path, monkeypatch):
    tool = tmp_path / "sysctl"
    tool.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo "Apple M2"\n')
    tool.chmod(0o755)
    monkeypatch.setattr(processors, "_CPUINFO", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert processors.cpu_model() != "Apple M2"  # only a Mac is asked so
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert processors.cpu_model() == "Apple M2"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert processors.cpu_model()
