"""Numbers in prose that are those of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report.readme import readme_problems, refresh
from bench.report.values import with_values

PAGE = r"""# imaginary

## imaginary · uniform, L = 20,000

| problem | method | setting | P@1 % | ms a query, alone |
|:--|:--|:--|--:|--:|
| L = 670,091, R = 32 | MACH† | B=32, mean | – \| **33.3** (33.0–33.4) | 1,200 (1,200–1,300) |
|  | *Full softmax* | linear | 9.40 \[F\] \| 32.4 \| +23.0 | 400 |

<sub>3 of 4 published shares are within 1.5 points of ours.</sub>

## imaginary · peak, L = 10,000

| problem | method | setting | P@1 % |
|:--|:--|:--|--:|
| L = 10,000, R = 32 | MACH | B=32, mean | OOM: 53.6 |
| L = 10,000, R = 32 | MACH | B=64, mean | 53.6 |
| L = 10,000, R = 32 | Full softmax | linear | – |

<sub>1 of 10 published shares are within 1.5 points of ours.</sub>
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "tables" / "imaginary" / "machine.md"
    path.parent.mkdir(parents=True)
    path.write_text(PAGE, encoding="utf-8")
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("marker", "number"),
    [
        ("P@1 % of MACH & uniform", "33.3"),
        ("P@1 % of L = 670,091 & Full softmax", "32.4"),
        ("ms a query of MACH", "1,200"),
        ("P@1 % of MACH & B=32 & peak", "53.6"),
        ("P@1 % of MACH & peak", "53.6"),  # two rows, one number
        ("ms a query of MACH divided by ms a query of Full softmax", "3.0"),
        ("agreed of imaginary", "4 of 14"),
        ("agreed of peak", "1 of 10"),
    ],
)
def test_a_marked_number_is_that_of_its_cell(results: Path, marker: str, number: str) -> None:
    marked = f"It is {{}}<!-- = {marker} in imaginary/machine -->."
    for shown in ("7", "1,234.5", "2 of 3", "–"):
        fresh, problems = with_values(marked.format(shown), results)
        assert fresh == marked.format(number)
        assert problems == [
            f"{shown} is not {marker} in imaginary/machine, which is {number}",
        ]
    assert with_values(marked.format(number), results) == (marked.format(number), [])


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("P@1 % of MACH in imaginary/machine", "3 cells, 2 numbers"),
        ("P@1 % of Full softmax & peak in imaginary/machine", "1 cells, 0 numbers"),
        ("P@2 % of MACH in imaginary/machine", "0 cells"),
        ("P@1 % of MAC in imaginary/machine", "0 cells"),
        ("P@1 % of MACH in imaginary/other", "no table imaginary/other"),
        ("P@1 % of MACH", "no table None"),
        ("P@1 %", "is not `COLUMN of WORD"),
        ("agreed of elsewhere in imaginary/machine", "nothing published"),
    ],
)
def test_a_marker_that_names_nothing_leaves_a_gap(results: Path, marker: str, reason: str) -> None:
    fresh, (problem,) = with_values(f"33.3<!-- = {marker} -->", results)
    assert fresh == f"–<!-- = {marker} -->"
    assert reason in problem


def test_a_page_of_a_benchmark_has_no_headings(results: Path) -> None:
    (results / "benchmarks").mkdir()
    (results / "benchmarks" / "speed.md").write_text("Text.\n\n| L | ms |\n|--:|--:|\n| 5 | 7 |\n")
    assert with_values("1<!-- = ms of 5 in benchmarks/speed -->", results)[0].startswith("7<")


def test_the_readme_is_refreshed_and_checked(results: Path) -> None:
    readme = results.parent / "README.md"
    readme.write_text("MACH has 35.0<!-- = P@1 % of MACH & uniform in imaginary/machine --> %.\n")
    (problem,) = readme_problems(readme, results)
    assert problem.startswith("README.md: 35.0 is not P@1 % of MACH")
    assert refresh(readme, results) == [readme]
    assert readme.read_text().startswith("MACH has 33.3<!--")
    assert readme_problems(readme, results) == []
