"""One campaign of `make soak`, and proof that it would notice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from soak import BAD, Campaign, Tally, judged, soak
from stub_trials import build_trial

from bench.store import record


def test_a_campaign_of_harm_leaves_every_trial_with_one_record(tmp_path):
    tally = soak(0.0, "short", ["stubs"], tmp_path)
    assert tally.is_good, tally.text()
    assert tally.counts["campaigns"] == 1
    assert tally.counts["settled"] == 10  # undisturbed, and after the harm


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed campaign."""
    tally = Tally()
    campaign = Campaign("stubs", {}, tmp_path_factory.mktemp("campaign"), "s", tally)
    records = campaign.finish()
    assert tally.is_good, tally.text()
    return campaign, records


def judge(campaign, expected, lines):
    """What is blamed when the file of records holds these lines."""
    [path] = campaign._scene.records
    kept = path.read_bytes()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    campaign._tally, campaign._expected = Tally(), expected
    try:
        campaign._judge_records()
    finally:
        path.write_bytes(kept)
    return {name: count for name, count in campaign._tally.counts.items() if name in BAD}


def test_lost_doubled_and_invented_records_are_noticed(finished):
    campaign, records = finished
    expected = {each.trial_id: judged(each) for each in records}
    lines = [dict(each.raw) for each in records]
    assert judge(campaign, expected, lines) == {}
    assert judge(campaign, expected, lines[1:]) == {"lost": 1}
    assert judge(campaign, expected, [*lines, lines[0]]) == {"doubled": 1}
    other = build_trial(replicate=99)
    unasked = {"trial_id": other.trial_id, "settings": other.to_dict()}
    assert judge(campaign, expected, [*lines, lines[0] | unasked]) == {"invented": 1}
    done = next(i for i, each in enumerate(records) if each.status == "done")
    lines[done] = lines[done] | {"test": {"P@1": 0.75}}
    assert judge(campaign, expected, lines) == {"invented": 1}


def test_tracebacks_and_what_is_left_are_noticed(finished):
    campaign, _ = finished
    campaign._tally = Tally()
    [path] = campaign._scene.records
    claim = path.with_name(".x.feed.claim")
    claim.touch()
    campaign._judge_records()
    claim.unlink()
    campaign._outputs[0].write_text("Traceback (most recent call last):\nKeyError: 'x'\n")
    campaign._judge_outputs()
    name, _, value = campaign._scene.mark.partition("=")
    command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(command, env={name: value}, stdout=subprocess.PIPE) as left:
        assert left.stdout.readline() == b"1\n"
        campaign._expect_nobody(seconds=0.1)
        assert left.wait(30) == -9
    counts = campaign._tally.counts
    assert (counts["left behind"], counts["tracebacks"], counts["left running"]) == (1, 1, 1)
    assert not campaign._tally.is_good
    assert record.read(path)[1] == []
