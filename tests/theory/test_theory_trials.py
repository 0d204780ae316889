"""Whole trials and the three studies: every published number has its trial, and repeats."""

import dataclasses
import doctest
import json
from pathlib import Path

import pytest

from bench.experiments import theory
from bench.measure.experiment import Context
from bench.methods.cards import cards
from bench.settings import SettingsError
from bench.store.record import to_plain
from bench.studies import published
from bench.studies import theory as stated
from bench.studies.published import TAGS, Claim, has_options
from bench.studies.study import load_study

STUDIES = tuple(stated.STUDIES)


@pytest.mark.parametrize("module", [theory, stated, published])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def run(trial, accelerator="cpu"):
    nowhere = Path("nowhere")
    context = Context(data_dir=nowhere, cache_dir=nowhere, accelerator=accelerator)
    return theory.run(trial, context)


def settings_of(trial):
    widths = "-".join(map(str, trial.model.hidden_dims)) or None
    return {"method": trial.model.method, "hidden_dims": widths, **trial.model.options}


@pytest.mark.parametrize("name", STUDIES)
def test_a_second_run_gives_the_same_record_to_the_bit(name):
    for trial in load_study(name).build_smoke():
        first, second = run(trial), run(trial)
        for block in ("data", "test", "estimators"):
            assert to_plain(first[block]) == to_plain(second[block]), trial.model.method
        assert first["test"]


def test_a_replicate_draws_anew():
    trial = load_study("figure-quadratic").build_smoke()[0]
    other = dataclasses.replace(trial, replicate=1)
    assert run(trial)["test"]["mean, R = 1"] != run(other)["test"]["mean, R = 1"]


def claims_of(study, trial):
    return [
        claim
        for claim in study.published
        if claim.part == study.part(trial) and has_options(settings_of(trial), claim.beside)
    ]


@pytest.mark.parametrize(
    ("name", "num_numbers"),
    [("figure-quadratic", 18), ("figure-theory", 204), ("table-claims", 35)],
)
def test_every_claim_stands_beside_its_trials_and_its_sources_are_told(name, num_numbers):
    study = load_study(name)
    trials = study.build_trials("cpu")
    found = [claim for trial in trials for claim in claims_of(study, trial)]
    assert sum(len(claim.metrics) for claim in found) == num_numbers
    assert all(claim in found for claim in study.published)
    for claim in study.published:
        assert isinstance(claim, Claim)
        assert claim.source
        assert claim.tag in TAGS
        over = [trial for trial in trials if has_options(settings_of(trial), claim.over)]
        assert not claim.over or len(over) == 1


@pytest.mark.parametrize("name", STUDIES)
def test_every_record_holds_the_quantities_of_its_claims(name):
    study = load_study(name)
    (path,) = (Path(__file__).parents[2] / "results" / "records" / name).glob("*.jsonl")
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        known[found["trial_id"]] = found["test"]
    for trial in study.build_trials("cpu"):
        for claim in claims_of(study, trial):
            assert set(claim.metrics) <= set(known[trial.trial_id]), claim


def test_sizes_that_the_papers_print_exactly_are_met_by_the_suites_own_models():
    study = load_study("table-claims")
    exact = ("6.4 B", "100 B parameters", "1.2 TB", "2020 configuration")
    claims = [claim for claim in study.published if claim.label in exact]
    assert len(claims) == len(exact)
    for trial in study.build_trials("cpu"):
        for claim in claims_of(study, trial):
            if claim in claims:
                ((quantity, _),) = claim.metrics.items()
                assert claim.agrees(quantity, run(trial)["test"][quantity]), claim.label


def test_cards_are_of_the_kind_and_never_timed():
    own = cards("theory")
    assert {one.name for one in own} >= {"reconstruction", "moments", "pairs", "counted"}
    assert all(one.kind == "theory" and not one.is_timed for one in own)


def test_other_accelerators_and_options_are_refused():
    trial = load_study("figure-theory").build_smoke()[-1]
    with pytest.raises(SettingsError, match="accelerator is 'gpu'"):
        run(trial, accelerator="gpu")
    model = dataclasses.replace(trial.model, options={**trial.model.options, "colour": "red"})
    with pytest.raises(SettingsError, match=r"options of 'outcomes'.*'colour'"):
        run(dataclasses.replace(trial, model=model))
    other = dataclasses.replace(trial.model, method="mach")
    with pytest.raises(SettingsError, match="measurement is 'mach'"):
        run(dataclasses.replace(trial, model=other))


@pytest.mark.parametrize(
    ("relation", "measured", "error", "agrees"),
    [
        ("=", 1.05, None, True),
        ("=", 1.15, None, False),
        ("=", 1.15, 0.1, True),
        ("≤", 0.2, None, True),
        ("≤", 1.2, None, False),
        ("≥", 1.5, None, True),
        ("≥", 0.8, None, False),
    ],
)
def test_claim_agrees_within_its_tolerance_and_errors(relation, measured, error, agrees):
    allowed = {"relation": relation, "tolerance": 0.1, "num_errors": 1.0}
    claim = Claim(label="x", metrics={"a": 1.0}, source="s", tag="A", **allowed)
    assert claim.agrees("a", measured, error) is agrees


def test_an_order_of_magnitude_is_claimed_of_the_smaller_of_the_two_models():
    claims = load_study("table-claims").published
    (claim,) = (claim for claim in claims if "order of magnitude" in claim.label)
    assert claim.beside["num_buckets"] == 10_000
    assert "5.77 B" in claim.source
