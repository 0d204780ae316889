"""Whole trials and the three studies: every published number has its trial, and repeats."""

import dataclasses
from pathlib import Path

import pytest

from bench.cards import card, cards
from bench.published import TAGS, has_options
from bench.record import to_plain
from bench.settings import SettingsError
from bench.study import THEORY, load_study
from bench.theory.published import Claim
from bench.theory.trial import execute

STUDIES = ("figure-quadratic", "figure-theory", "table-claims")


def run(trial, accelerator="cpu", events=None):
    sent = [] if events is None else events
    return execute(
        trial,
        data_dir=Path("nowhere"),
        cache_dir=Path("nowhere"),
        accelerator=accelerator,
        emit=sent.append,
    )


def options_of(trial):
    widths = "-".join(map(str, trial.model.hidden_dims))
    return {"hidden_dims": widths, **trial.data.options, **trial.model.options}


@pytest.mark.parametrize("name", STUDIES)
def test_a_second_run_gives_the_same_record_to_the_bit(name):
    for trial in load_study(name).build_smoke():
        events: list = []
        first, second = run(trial, events=events), run(trial)
        for block in ("data", "test", "estimators"):
            assert to_plain(first[block]) == to_plain(second[block]), trial.model.method
        assert [event["phase"] for event in events] == ["build", "measure"]
        assert len(first["data"]["fingerprint"]) == 16
        assert first["test"]


def test_a_replicate_draws_anew():
    trial = load_study("figure-quadratic").build_smoke()[0]
    other = dataclasses.replace(trial, replicate=1)
    assert run(trial)["test"]["mean, R = 1"] != run(other)["test"]["mean, R = 1"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_claim_stands_beside_one_trial_of_its_part_and_its_sources_are_told(name):
    study = load_study(name)
    trials = study.build_trials("cpu")
    parts = {study.part(trial) for trial in trials}
    assert study.published
    for claim in study.published:
        assert isinstance(claim, Claim)
        assert claim.part in parts
        assert claim.source
        assert claim.tag in TAGS
        for wanted in filter(None, (claim.beside, claim.over)):
            same = [
                trial
                for trial in trials
                if study.part(trial) == claim.part and has_options(options_of(trial), wanted)
            ]
            assert len(same) == 1, (claim.label, claim.quantity, wanted)


def test_quantities_of_claims_are_those_that_trials_record():
    # The sizes are small enough to be counted as they are.
    study = load_study("table-claims")
    for trial in study.build_trials("cpu"):
        if trial.model.method == "counted" and trial.data.name not in ("ODP", "Amazon search"):
            continue
        known = run(trial)["test"]
        options = options_of(trial)
        for claim in study.published:
            if claim.part == study.part(trial) and has_options(options, claim.beside):
                assert claim.quantity in known


def test_claims_of_what_must_agree_do():
    """Sizes that the papers print exactly, by the suite's own models."""
    study = load_study("table-claims")
    expected = {"6.4 B", "100 B parameters", "1.2 TB", "full layer, Adam"}
    met = set()
    for trial in study.build_trials("cpu"):
        options = options_of(trial)
        claims = [
            claim
            for claim in study.published
            if claim.part == trial.data.name == "Amazon search"
            and has_options(options, claim.beside)
            and not claim.over
        ]
        found = run(trial)["test"] if claims else {}
        for claim in claims:
            if claim.label in expected:
                assert claim.agrees(found[claim.quantity], None), claim.label
                met.add(claim.label)
    assert met == expected


def test_cards_are_of_the_kind_and_never_timed():
    own = cards("theory")
    assert {one.name for one in own} >= {"reconstruction", "moments", "pairs", "counted"}
    assert all(one.kind == THEORY.name and not one.cost_entry for one in own)
    with pytest.raises(SettingsError, match="measurement is 'mach'"):
        card("mach", "theory")


def test_other_accelerators_and_sources_are_refused():
    trial = load_study("figure-theory").build_smoke()[-1]
    with pytest.raises(SettingsError, match="accelerator is 'gpu'"):
        run(trial, accelerator="gpu")
    lost = dataclasses.replace(trial, data=dataclasses.replace(trial.data, source="dreams"))
    with pytest.raises(SettingsError, match="source is 'dreams'"):
        run(lost)


def test_a_claim_holds_one_number():
    with pytest.raises(ValueError, match="has 2 numbers"):
        Claim(label="x", metrics={"a": 1.0, "b": 2.0}, source="s", tag="A", beside={})


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
    claim = Claim(
        label="x",
        metrics={"a": 1.0},
        source="s",
        tag="A",
        beside={},
        relation=relation,
        tolerance=0.1,
        num_errors=1.0,
    )
    assert claim.agrees(measured, error) is agrees


def test_an_order_of_magnitude_is_claimed_of_the_smaller_of_the_two_models():
    (claim,) = (
        claim
        for claim in load_study("table-claims").published
        if "order of magnitude" in claim.label
    )
    assert claim.beside["num_buckets"] == 10_000
    assert "5.77 B" in claim.source
