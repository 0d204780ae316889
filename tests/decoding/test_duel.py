import pytest
import torch

from bench.decoding import duel
from bench.decoding.contenders import CONTENDERS, Contender
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial


class Clock:
    """Seconds that only contenders let pass."""

    def __init__(self):
        self.seconds = 0.0
        self.calls = []

    def __call__(self):
        return self.seconds


CLOCK = Clock()


class Sleeper(Contender):
    """Takes its time: a fixed one for a call, and one for each query."""

    def __init__(self, problem, *, k, call=0.0, query=1.0):
        super().__init__(problem, k=k)
        self.call, self.query = call, query

    def top_k(self, queries):
        CLOCK.calls.append((self.query, queries.shape[0], float(queries[0, 0, 0])))
        # Load from elsewhere: every tenth call is slow, and so is all that comes later.
        slowness = 5.0 if len(CLOCK.calls) % 10 == 0 else 1.0 + len(CLOCK.calls) / 1000
        CLOCK.seconds += slowness * (self.call + self.query * queries.shape[0])
        return torch.zeros(queries.shape[0], self.k, dtype=torch.int64)

    def decode_bytes(self):
        return 1


@pytest.fixture
def clock(monkeypatch):
    for name in ("slow", "fast"):
        monkeypatch.setitem(CONTENDERS, name, "test_duel:Sleeper")
    monkeypatch.setattr("bench.decoding.contenders.resolve", lambda line: Sleeper)
    CLOCK.seconds, CLOCK.calls = 0.0, []
    return CLOCK


def build_trial(method, *, k=5, num_labels=500, peak=0.9, **options):
    sizes = {"num_labels": num_labels, "num_worlds": 2, "num_buckets": 32, "num_queries": 200}
    return Trial(
        data=DataSpec(source="planted_scores", name=f"peak {peak}", options=sizes | {"peak": peak}),
        model=ModelSpec(method=method, encoder="linear", options={"k": k} | options),
        train=TrainSpec(),
    )


def test_ratio_is_of_times_in_the_same_round(clock, tmp_path):
    trials = [build_trial("slow", query=2e-3), build_trial("fast", query=1e-3, call=0.01)]
    (met,) = duel.duels_of(trials, ["slow", "fast"])
    found = list(duel.fight(met, data_dir=tmp_path, cache_dir=tmp_path, now=clock))
    assert [model.method for model, _ in found] == ["fast", "fast"]
    large, single = (outcome for _, outcome in found)
    assert (large.batch_size, single.batch_size) == (64, 1)
    assert large.ratio == pytest.approx((0.01 / 64 + 1e-3) / 2e-3, rel=0.02)
    assert single.ratio == pytest.approx(11 / 2, rel=0.02)
    assert single.spread[0] <= single.ratio <= single.spread[1]
    assert large.seconds < large.reference_seconds
    assert single.seconds > single.reference_seconds


def test_rivals_take_turns_on_the_same_queries(clock, tmp_path):
    (met,) = duel.duels_of([build_trial("slow", query=2e-3), build_trial("fast", query=1e-3)])
    list(duel.fight(met, data_dir=tmp_path, cache_dir=tmp_path, now=clock))
    turns = [call for call in clock.calls if call[1] == 64]
    num_in_turn = 1 + duel.TURNS[64]
    rounds = [turns[i : i + 2 * num_in_turn] for i in range(0, len(turns), 2 * num_in_turn)]
    for mine in rounds:
        first, second = mine[:num_in_turn], mine[num_in_turn:]
        assert {call[0] for call in first} != {call[0] for call in second}
        assert [call[2] for call in first] == [call[2] for call in second]
    assert len({mine[0][0] for mine in rounds[1:]}) == 2


def test_denormals_are_flushed_while_a_duel_lasts(clock, tmp_path):
    def is_flushed():
        return float(torch.tensor([1e-40]) * 2.0) == 0.0

    (met,) = duel.duels_of([build_trial("slow"), build_trial("fast")])
    outcomes = duel.fight(met, data_dir=tmp_path, cache_dir=tmp_path, now=clock)
    next(outcomes)
    assert is_flushed()
    assert len(list(outcomes)) == 1
    assert not is_flushed()


def test_long_calls_end_after_a_few_rounds(clock, tmp_path):
    (met,) = duel.duels_of([build_trial("slow", query=2.0), build_trial("fast", query=1.0)])
    list(duel.fight(met, data_dir=tmp_path, cache_dir=tmp_path, now=clock))
    few = 2 * (1 + duel._MIN_ROUNDS) * (1 + duel.TURNS[64])
    assert sum(call[1] == 64 for call in clock.calls) == few


def test_duels_are_between_the_methods_asked_for_the_first_the_reference(clock):
    trials = [
        build_trial("pruned", falls_back=True),
        build_trial("dense"),
        build_trial("pruned"),
        build_trial("auto", num_labels=900),
        build_trial("dense", num_labels=900),
        build_trial("dense", k=7),
    ]
    first, second = duel.duels_of(trials)
    assert [model.method for model in first.models] == ["dense", "pruned", "pruned"]
    assert "falls_back" in first.models[2].options
    assert [model.method for model in second.models] == ["dense", "auto"]
    (only,) = duel.duels_of(trials, ["auto", "dense"])
    assert [model.method for model in only.models] == ["auto", "dense"]
    assert duel.duels_of(trials, where={"num_labels": "900", "k": "5"}) == [second]


@pytest.mark.parametrize(
    ("methods", "where", "message"),
    [
        (["absent"], {}, "no trial of method 'absent'; there are auto, dense, pruned"),
        (["auto", "pruned"], {}, "no problem is tried with two of these contenders"),
        ([], {"num_labels": "3"}, "has num_labels = '3'; there are 500, 900"),
        ([], {"size": "3"}, "no setting 'size'; expected k, num_buckets, num_labels"),
    ],
)
def test_what_no_trial_has_is_refused(methods, where, message):
    trials = [build_trial("dense"), build_trial("pruned")]
    trials += [build_trial("dense", num_labels=900), build_trial("auto", num_labels=900)]
    with pytest.raises(SettingsError, match=message):
        duel.duels_of(trials, methods, where)


def test_an_outcome_names_both_and_their_ratio(clock):
    trials = [build_trial("dense"), build_trial("pruned", falls_back=True)]
    (met,) = duel.duels_of(trials)
    outcome = duel.Outcome(64, 2e-3, 1e-3, 0.5, (0.4, 0.61))
    line = duel.describe(met, met.models[1], outcome)
    assert "dense 2 ms, pruned falls_back=True 1 ms, ratio 0.500 (0.400–0.610)" in line


def test_a_small_ratio_keeps_its_digits(clock):
    (met,) = duel.duels_of([build_trial("dense"), build_trial("pruned")])
    outcome = duel.Outcome(64, 1e-2, 1.17e-4, 0.0117, (0.0113, 0.0124))
    assert "ratio 0.0117 (0.0113–0.0124)" in duel.describe(met, met.models[1], outcome)
    outcome = duel.Outcome(64, 1e-4, 1.01e-2, 101.2, (83.1, 110.4))
    assert "ratio 101 (83.1–110)" in duel.describe(met, met.models[1], outcome)
