from __future__ import annotations

import json

import pytest

from bench import provenance


def test_provenance_names_code_software_and_machine_but_no_host_and_no_path():
    block = provenance.collect(code_digest="d", accelerator=None)
    assert set(block["packages"]) == {"torch", "lightning", "torchmetrics", "numpy", "numba"}
    assert set(block["machine"]) == {"cpu", "num_cores", "memory_bytes", "accelerator"}
    assert block["machine"]["num_cores"] >= 1
    assert "/" not in json.dumps(block | {"machine": None})


def test_commit_is_none_outside_of_git(tmp_path):
    assert provenance.git_state(tmp_path) == (None, None)


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
