import pytest
import torch

from bench.experiments.decoding import problems
from bench.experiments.decoding.decoders import OutputLayer, build_decoder, hidden_queries
from bench.mach.decode import top_k_reference
from bench.measure.experiment import Context
from bench.settings import DataSpec, SettingsError


def context(folder):
    return Context(data_dir=folder, cache_dir=folder)


def build_problem(tmp_path, **options):
    sizes = {"num_labels": 2000, "num_worlds": 6, "num_buckets": 256, "peak": 0.8}
    return problems.planted_scores(context(tmp_path), **(sizes | {"num_queries": 20} | options))


@pytest.mark.parametrize("method", ["dense", "pruned", "auto", "authors"])
@pytest.mark.parametrize("num_queries", [1, 20])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_exact_decoders_give_the_reference_labels(tmp_path, method, num_queries, k):
    problem = build_problem(tmp_path, num_buckets=97)
    decoder = build_decoder(method, problem, {"k": k})
    queries = decoder.prepare_queries(problem.scores[:num_queries])
    expected = top_k_reference(problem.scores[:num_queries], problem.table, k)[1]
    assert torch.equal(decoder.top_k(queries), expected)
    assert decoder.decode_bytes() > 0


def test_walk_that_falls_back_counts_the_labels_of_the_scan(tmp_path):
    uniform = build_problem(tmp_path, num_buckets=97, num_labels=40_000, peak=0.0)
    decoder = build_decoder("pruned", uniform, {"k": 7, "falls_back": True})
    expected = top_k_reference(uniform.scores, uniform.table, 7)[1]
    assert torch.equal(decoder.top_k(uniform.scores), expected)
    assert set(decoder.num_scored(uniform.scores).tolist()) == {40_000}
    alone = build_decoder("pruned", uniform, {"k": 7})
    assert decoder.decode_bytes() > alone.decode_bytes()
    peaked = build_problem(tmp_path, num_buckets=97, num_labels=40_000, peak=0.99)
    decoder = build_decoder("pruned", peaked, {"k": 1, "falls_back": True})
    assert int(decoder.num_scored(peaked.scores).min()) < 40_000


def test_dense_recomputes_a_universal_hash(tmp_path):
    problem = build_problem(tmp_path, hash_family="universal", num_buckets=97)
    decoder = build_decoder("dense", problem, {"k": 7, "recompute": True})
    expected = top_k_reference(problem.scores, problem.table, 7)[1]
    assert torch.equal(decoder.top_k(problem.scores), expected)
    assert decoder.decode_bytes() == 6 * 2 * 8


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_dense_gives_the_labels_of_rounded_scores(tmp_path, name):
    problem = build_problem(tmp_path)
    decoder = build_decoder("dense", problem, {"k": 7, "score_type": name})
    rounded = problem.scores.to(getattr(torch, name)).float()
    expected = top_k_reference(rounded, problem.table, 7)[1]
    assert torch.equal(decoder.top_k(problem.scores), expected)
    assert not decoder.is_exact


def test_authors_gather_breaks_ties_by_the_smaller_label(tmp_path):
    problem = build_problem(tmp_path, num_buckets=5)
    tied = problem.scores.round()
    decoder = build_decoder("authors", problem, {"k": 9})
    assert torch.equal(decoder.top_k(tied), top_k_reference(tied, problem.table, 9)[1])


@pytest.mark.parametrize("num_buckets", [16, 256])
def test_faiss_sums_the_same_bucket_scores(tmp_path, num_buckets):
    pytest.importorskip("faiss", reason="the `decode` extra is not installed")
    problem = build_problem(tmp_path, num_buckets=num_buckets)
    decoder = build_decoder("faiss_pq", problem, {"k": 3})
    found = decoder.top_k(problem.scores)
    expected, labels = top_k_reference(problem.scores, problem.table, 3)
    assert float((found == labels).float().mean()) > 0.95
    if num_buckets == 256:
        own = decoder.index.search(problem.scores.reshape(20, -1).numpy(), 3)[0]
        assert torch.allclose(torch.from_numpy(own), expected, atol=1e-4)


def test_softmax_matmul_gives_the_largest_logits(tmp_path):
    problem = build_problem(tmp_path)
    decoder = build_decoder("softmax_matmul", problem, {"k": 4})
    hidden = decoder.prepare_queries(problem.scores)
    assert hidden.shape == (20, 128)
    logits = hidden @ decoder.weight
    assert torch.equal(decoder.top_k(hidden), logits.topk(4, dim=1).indices)
    assert decoder.decode_bytes() == 4 * 128 * 2000


@pytest.mark.parametrize("method", ["dense", "pruned", "auto", "authors", "buckets"])
def test_output_layer_gives_scores_in_the_form_that_a_decoder_takes(tmp_path, method):
    problem = build_problem(tmp_path)
    decoder = build_decoder(method, problem, {"k": 4})
    assert not decoder.starts_from_hidden
    layer = OutputLayer(problem.num_worlds, problem.num_buckets)
    hidden = hidden_queries(20)
    logits = layer.logits(hidden)
    weight = layer.weight.view(128, 6, 256)
    torch.testing.assert_close(logits, torch.einsum("nh,hrb->nrb", hidden, weight))
    expected = decoder.prepare_queries(logits.log_softmax(-1))
    torch.testing.assert_close(decoder.normalise(logits), expected)
    assert layer.num_bytes == 4 * 128 * 6 * 256


def test_planted_scores_are_log_probabilities_as_peaked_as_asked_for(tmp_path):
    shares = []
    for peak in (0.0, 0.1, 0.5, 0.9):
        problem = build_problem(tmp_path, peak=peak, num_queries=50)
        assert torch.allclose(problem.scores.exp().sum(-1), torch.tensor(1.0), atol=1e-5)
        shares.append(problem.facts["peak_share"])
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert 0.3 < shares[-1] < 0.7  # half of the peak is one label's


def test_planted_scores_are_the_same_again_and_others_with_another_seed(tmp_path):
    first, again = build_problem(tmp_path), build_problem(tmp_path)
    assert torch.equal(first.scores, again.scores)
    assert torch.equal(first.table, again.table)
    assert not torch.equal(first.scores, build_problem(tmp_path, seed=1).scores)


def test_scores_of_a_trained_model_are_kept(tmp_path, monkeypatch):
    sizes = {"num_worlds": 3, "num_buckets": 16, "num_steps": 3, "num_queries": 50}
    spec = DataSpec(source="model_scores", name="planted", options={"dataset": "planted", **sizes})
    first = problems.build_problem(spec, context(tmp_path))
    assert first.scores.shape == (50, 3, 16)
    assert torch.allclose(first.scores.exp().sum(-1), torch.tensor(1.0), atol=1e-4)
    assert first.num_labels == 60

    def fail(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr("bench.experiments.decoding.problems._train", fail)
    assert torch.equal(problems.build_problem(spec, context(tmp_path)).scores, first.scores)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("guess", {}, "decoder is 'guess'; expected one of authors"),
        ("dense", {"score_type": "int8"}, "score_type is 'int8'"),
        ("dense", {"recompute": True}, "expected UniversalHash"),
        ("faiss_pq", {}, "expected 16 or 256"),
    ],
)
def test_impossible_decoders_are_refused(tmp_path, method, options, message):
    with pytest.raises(SettingsError, match=message):
        build_decoder(method, build_problem(tmp_path, num_buckets=97), {"k": 1, **options})


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none", {}, "expected one of planted_scores"),
        ("planted_scores", {"num_labels": 9, "peak": 1}, "peak is 1"),
        ("model_scores", {"dataset": "x", "num_steps": 1}, "'x'; expected one of simplewiki"),
    ],
)
def test_impossible_problems_are_refused(tmp_path, source, options, message):
    sizes = {"num_worlds": 1, "num_buckets": 2} if options else {}
    spec = DataSpec(source=source, name="x", options={**sizes, **options})
    with pytest.raises(SettingsError, match=message):
        problems.build_problem(spec, context(tmp_path))
