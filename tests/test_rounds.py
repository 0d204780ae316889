"""Rounds with stub rows: processes without torch that say how long their steps took."""

from __future__ import annotations

from pathlib import Path

import pytest
from stub_trials import build_study, build_trial

from bench.cli.timing_view import TimingView
from bench.measure.experiment import Context
from bench.methods.labels import RowNames
from bench.runner import timing
from bench.runner.timing import Session, groups_of
from bench.settings import DataSpec, Trial
from bench.store import costs
from bench.store.costs import best_seconds

MACHINE = {"cpu": "c", "num_cores": 2, "memory_bytes": None, "accelerator": None}
GIB = 1 << 30


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def measure(tmp_path):
    def measure(*trials, num_rounds=3, **options):
        study = build_study(list(trials))
        session = Session(
            study=study,
            context=Context(data_dir=tmp_path, cache_dir=tmp_path),
            machine=MACHINE,
            num_rounds=num_rounds,
            **options,
        )
        return list(session.measure(groups_of(study, trials)))

    return measure


def rows(count):
    return [build_trial(note=i) for i in range(count)]


def turns(line, number):
    """Rows of a round, in their order."""
    places = {
        repetition["place"]: row["settings"]["model"]["options"]["note"]
        for row in line.rows
        for repetition in row["visits"]
        if repetition["round"] == number
    }
    return [places[place] for place in sorted(places)]


def statuses(line):
    return [(row["status"], len(row["visits"])) for row in line.rows]


def test_every_row_has_its_turn_once_a_round_in_orders_that_differ(measure):
    [line] = measure(*rows(6))
    orders = [turns(line, number) for number in range(3)]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert line.num_rounds == 3
    assert [row["settings"]["model"]["options"]["note"] for row in line.rows] == list(range(6))


def test_a_repetition_holds_raw_seconds_units_and_load(measure):
    [line] = measure(build_trial())
    [row] = line.rows
    phase = row["visits"][0]["phases"]["train"]
    assert (phase["seconds"], phase["units"]) == ([0.5, 0.25, 1.0], 2)
    assert phase["wall_seconds"] >= 0
    assert "other_cpu_seconds" in phase
    assert best_seconds(row, "train") == 0.25


@pytest.mark.parametrize(("first_quiet", "visits"), [(0, 3), (2, 3), (4, 5), (99, 8)])
def test_a_row_that_others_always_disturbed_has_further_rounds(
    measure, monkeypatch, first_quiet, visits
):
    def share(row, num_cores):
        [repetition] = row["visits"]
        return 0.3 if repetition["round"] < first_quiet else 0.0

    monkeypatch.setattr(timing, "load_share", share)
    [line] = measure(*rows(2), num_extra_rounds=5)
    assert statuses(line) == [("done", visits)] * 2
    [line] = measure(*rows(2))
    assert statuses(line) == [("done", 3)] * 2


def test_a_row_says_what_it_is_and_what_it_was_measured_on(measure):
    [line] = measure(build_trial())
    [row] = line.rows
    assert row["cost_id"] == Trial.from_dict(row["settings"]).cost_id == build_trial().cost_id
    assert row["versions"] == {"method": 1, "source": 1, "protocol": 1, "psp": 2}
    assert (row["fingerprint"], row["weights"]) == ("f", None)
    assert row["status"] == "done"  # whatever the row's own words
    assert line.machine == MACHINE


def test_replicates_are_one_row_and_rates_have_one_each():
    trials = [build_trial(replicate=i, train={"learning_rate": r}) for i in (1, 2) for r in (1, 2)]
    trials.append(build_trial(method="other"))
    [group] = groups_of(build_study(trials), trials)
    told = [(t.model.method, t.train.learning_rate, t.replicate) for t in group.trials]
    assert told == [("stub", 1, 0), ("stub", 2, 0), ("other", 1e-3, 0)]


def test_for_seconds_a_step_all_rates_and_lengths_are_one_row():
    trials = [build_trial(train={"learning_rate": 0.1 + i, "num_steps": 1 + i}) for i in range(3)]
    [group] = groups_of(build_study(trials), trials, is_for_steps=True)
    assert group.trials == (trials[0],)


def test_a_row_names_the_trial_whose_weights_it_was_timed_on(measure):
    slow, fast = (build_trial(replicate=1, train={"learning_rate": rate}) for rate in (0.1, 0.2))
    unresolved = build_trial(train={"budget_seconds": 9.0})
    [line] = measure(slow, fast, unresolved)
    firsts = [costs.first_replicate(each).trial_id for each in (slow, fast)]
    assert [row["weights_of"] for row in line.rows] == [*firsts, None]
    assert len({row["cost_id"] for row in line.rows}) == 1


def test_parts_and_data_sets_of_a_study_are_groups_of_their_own(measure):
    first, second = build_trial(), build_trial(method="other")
    elsewhere = Trial(
        data=DataSpec(source="planted", name="elsewhere"), model=first.model, train=first.train
    )
    study = build_study([], part=lambda trial: trial.model.method)
    groups = groups_of(study, [first, second, elsewhere])
    titles = ["stub · nothing", "other · nothing", "stub · elsewhere"]
    assert [group.title for group in groups] == titles


def test_a_row_that_fails_leaves_the_others_whole(measure, tmp_path):
    [line] = measure(build_trial(), build_trial("fail_in_second_round"), build_trial("leave"))
    assert statuses(line) == [("done", 3), ("error", 1), ("done", 3)]
    assert "ValueError: no more" in line.rows[1]["reason"]
    diary = (tmp_path / "diary").read_text().splitlines()
    assert diary.count("1 fail_in_second_round") == 1
    assert "2 fail_in_second_round" not in diary


def test_seconds_that_are_none_are_the_rows_error_alone(measure):
    [line] = measure(build_trial("time_nothing"), build_trial())
    assert statuses(line) == [("error", 0), ("done", 3)]
    assert "expected `float` > 0" in line.rows[0]["reason"]


def test_a_row_that_fits_alone_is_measured_alone(measure):
    [line] = measure(build_trial("exhaust_beside_others"), *rows(2))
    assert statuses(line) == [("done", 3)] * 3


def test_a_row_that_runs_out_of_memory_in_a_repetition_is_tried_again_alone(measure):
    [line] = measure(build_trial("exhaust_in_repetition_beside_others"), *rows(2))
    assert statuses(line) == [("done", 3)] * 3


def test_a_row_that_does_not_fit_alone_either_is_out_of_memory(measure):
    [line] = measure(build_trial("exhaust_always"), *rows(2))
    assert statuses(line) == [("oom", 0), ("done", 3), ("done", 3)]
    assert "MemoryError" in line.rows[0]["reason"]


class Waiting:
    """A row's process that is not there."""

    def __init__(self, ended, name):
        self._ended, self._name = ended, name

    def send(self, message):
        assert message == {"round": None}

    def wait_for(self, wanted, seconds):
        return {"payload": {}}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._ended.append(self._name)


@pytest.mark.parametrize(
    ("free", "known", "expected"),
    [
        (20 * GIB, 0, []),
        (10 * GIB, 0, ["large"]),
        (2 * GIB, 0, ["large", "small"]),
        (10 * GIB, GIB, []),
        (0, 0, ["large", "small"]),
        (None, 0, []),
    ],
)
def test_the_largest_rows_end_until_the_next_one_fits(tmp_path, monkeypatch, free, known, expected):
    ended = []
    held = []
    for name, size in (("small", 2 * GIB), ("large", 9 * GIB)):
        row = timing._Row(build_trial(note=name), resident_bytes=size)
        row.child = Waiting(ended, name)
        held.append(row)
    gone = timing._Row(build_trial(), resident_bytes=10 * GIB)
    # What a row gives back is there at once: 9 GiB of the large one, 2 GiB of the small one.
    sizes = {"small": 2 * GIB, "large": 9 * GIB}
    monkeypatch.setattr(
        timing,
        "available_memory_bytes",
        lambda: None if free is None else free + sum(sizes[name] for name in ended),
    )
    session = Session(
        study=build_study([]),
        context=Context(data_dir=tmp_path, cache_dir=tmp_path),
        machine=MACHINE,
    )
    session._make_room([*held, gone], known)
    assert ended == expected


def test_rows_that_were_ended_start_again_for_their_next_turn(measure, monkeypatch):
    monkeypatch.setattr(timing, "available_memory_bytes", lambda: 0)
    words = []
    [line] = measure(
        *rows(2), on_repetition=lambda group, number, index, trial, word, phases: words.append(word)
    )
    assert statuses(line) == [("done", 3)] * 2
    assert words.count("starts") > 2
    assert all(row["fingerprint"] == "f" for row in line.rows)


def test_an_interrupt_ends_every_row(measure, tmp_path):
    def interrupt(group, number, index, trial, word, phases):
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(*rows(2), on_repetition=interrupt)
    pids = [int(note.stem) for note in tmp_path.glob("*.timed")]
    assert len(pids) == 2  # killed before they could take their notes away
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_person_sees_each_turn_and_each_failure(measure, capsys):
    trials = build_trial(), build_trial("fail_in_second_round")
    view = TimingView(3, RowNames(trials))
    measure(*trials, on_repetition=view.on_repetition)
    view.close()
    out = capsys.readouterr().out
    assert out.count("stub, behaviour=done on nothing · train 250 ms a step") == 3
    assert "[round 2 of 3, row " in out
    assert "ERROR: ValueError: no more" in out


def test_a_person_sees_which_rounds_are_further_ones(measure, monkeypatch, capsys):
    monkeypatch.setattr(timing, "load_share", lambda row, num_cores: 0.3)
    view = TimingView(1, RowNames(rows(1)))
    measure(*rows(1), num_rounds=1, num_extra_rounds=2, on_repetition=view.on_repetition)
    view.close()
    told = [line.partition("]")[0] for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(told)) == [
        "[round 1 of 1, row 1 of 1",
        "[further round 1",
        "[further round 2",
    ]
