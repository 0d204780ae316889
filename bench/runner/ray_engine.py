"""Trials, and worlds of one, as tasks of a Ray cluster; the only file that imports Ray.

It is in the extra `[cluster]`. A task starts a process of its own on its node, by
`bench.runner.child.run_job`: Ray knows of its threads, its share of memory and GPUs, and its
record. It tries no task twice: what is run again, and why, is decided here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports each cluster to its makers

import ray
import ray._private.worker as ray_worker
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.errors import UserError
from bench.measure.experiment import Context
from bench.measure.processors import num_cores
from bench.runner import parts
from bench.runner.child import ChildFailed, Job, build_record, merged, run_job
from bench.runner.parts import Done, Shard
from bench.runner.run import Event, OnEvent, facts_of
from bench.settings import Trial
from bench.store import files, provenance
from bench.store.locks import LOOK_SECONDS
from bench.store.record import Record

#: Of Ray's store of objects: events, records, and worlds on their way, which spill to the disk.
STORE_BYTES = 256 << 20
_ANSWER_SECONDS = 120.0
_END_SECONDS = 10.0
# A node may die under a trial, but hardly so many under one that has no part in it.
_MOST_DEATHS = 3


# Ray prints the last lines of a dead node's log among ours, and has no option against it.
ray_worker.print_to_stdstream = lambda data, ignore_prefix: None


class ClusterError(UserError):
    """A cluster cannot be reached, or its records would not be what they are here."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a trial takes of a node, or all that a node has.

    Attributes:
        num_threads: and as many of Ray's CPUs.
        num_gpus: a part of one where a node runs more trials than it has GPUs.
        memory_bytes: the most that the trial's process may take.
    """

    num_threads: int
    num_gpus: float
    memory_bytes: int

    def to_ray(self) -> dict[str, float]:
        """Options of a task."""
        return {
            "num_cpus": self.num_threads,
            "num_gpus": self.num_gpus,
            "memory": self.memory_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that can run trials.

    Attributes:
        node_id: Ray's.
        address: for messages.
        whole: all that Ray may give of it.
    """

    node_id: str
    address: str
    whole: Share

    def place(self) -> NodeAffinitySchedulingStrategy:
        """Of a task that is for this node alone."""
        return NodeAffinitySchedulingStrategy(self.node_id, soft=False)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be the driver of a cluster; left, none of its tasks runs on.

    Args:
        address: `host:port` of its head; None: a cluster of this machine alone, for so long.

    Raises:
        ClusterError: there is none.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": num_cores(),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"address is {address!r}; expected that of a Ray cluster: {_first_line(error)}"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in its place
    try:
        yield
    finally:
        ray.shutdown()


class Cluster:
    """The nodes of the cluster that this process drives, of one kind and with this code.

    Args:
        context: of trials. Its folders are paths on every node.
        node_cache_dir: the cache on a node, `~` and `$VARIABLES` as there; None: the context's.
        num_threads: of a trial; None: all of the smallest node's, or a GPU's part of them.
        study_file: of a user, which must be the same everywhere.

    Attributes:
        machine: the record's `machine` block.
        share: of a trial.
        whole: the most that a trial can have: all of the smallest node.
        device_bytes: memory of the smallest GPU; None without GPUs.

    Raises:
        ClusterError: no node can run trials; or one has other versions, code, processors or
            memory, which the message names.
    """

    def __init__(
        self,
        context: Context,
        *,
        node_cache_dir: str | None = None,
        num_threads: int | None = None,
        study_file: Path | None = None,
    ) -> None:
        cache_dir = context.cache_dir.resolve() if node_cache_dir is None else Path(node_cache_dir)
        self.context = dataclasses.replace(
            context, data_dir=context.data_dir.resolve(), cache_dir=cache_dir
        )
        self.study_file = study_file and study_file.resolve()
        self.versions = _versions(self.study_file)
        nodes = self.nodes()
        if not nodes:
            what = "a GPU" if self._is_gpu else "CPUs"
            raise ClusterError(f"no node of the cluster has {what} for trials")
        self.whole = Share(
            num_threads=min(node.whole.num_threads for node in nodes),
            num_gpus=min(node.whole.num_gpus for node in nodes),
            memory_bytes=min(node.whole.memory_bytes for node in nodes),
        )
        self.share = share_of(self.whole, num_threads)
        # Without a GPU of its own a task sees none.
        own = {"num_cpus": 0, "num_gpus": 0.01 if self._is_gpu else 0}
        asked = [
            _look.options(scheduling_strategy=node.place(), **own).remote(
                self.context, self.study_file
            )
            for node in nodes
        ]
        machines, devices = {}, []
        for node, ref in zip(nodes, asked, strict=True):
            versions, machines[node.node_id], device_bytes = _answer(ref, node)
            refuse_other(node.address, versions, self.versions)
            devices.append(device_bytes)
        self.device_bytes = min((each for each in devices if each is not None), default=None)
        self.machine = machines[nodes[0].node_id]
        for node in nodes:
            refuse_other(node.address, _kind(machines[node.node_id]), _kind(self.machine))

    @property
    def _is_gpu(self) -> bool:
        return self.context.accelerator == "gpu"

    def nodes(self) -> list[Node]:
        """Those that are alive and can run trials."""
        found = []
        for each in ray.nodes():
            resources = each["Resources"]
            whole = Share(
                num_threads=int(resources.get("CPU", 0)),
                num_gpus=resources.get("GPU", 0.0) if self._is_gpu else 0.0,
                memory_bytes=int(resources.get("memory", 0)),
            )
            if each["Alive"] and whole.num_threads and (whole.num_gpus or not self._is_gpu):
                address = f"{each['NodeManagerAddress']}:{each['NodeManagerPort']}"
                found.append(Node(node_id=each["NodeID"], address=address, whole=whole))
        return sorted(found, key=lambda node: node.address)

    def num_places(self) -> int:
        """Trials that can run at once now.

        Raises:
            ClusterError: none can, as all nodes are gone.
        """
        found = sum(node.whole.num_threads // self.share.num_threads for node in self.nodes())
        if not found:
            raise ClusterError("no node of the cluster is left to run trials")
        return found


@dataclass(kw_only=True, eq=False)
class _Attempt:
    """A task in hand: its job, what it may take, and what is known of it so far.

    Attributes:
        worlds: those that it trains alone; of (a, a) it asks what one takes. None: all of a trial.
        split: of a task of worlds, and of the one that joins them.
        shard: reference to what it leaves.
    """

    job: Job
    share: Share
    worlds: tuple[int, int] | None = None
    split: _Split | None = None
    shard: Any = None
    num_deaths: int = 0
    started_at: str = ""
    partial: dict[str, Any] = dataclasses.field(default_factory=dict)
    fraction: float = 0.0


@dataclass(kw_only=True, eq=False)
class _Split:
    """A trial whose worlds are tasks.

    Attributes:
        tasks: those of worlds.
        is_told: whether its start has been passed on.
        done: by their first world, the tasks that have ended.
    """

    started_at: str
    began: float
    is_told: bool = False
    tasks: list[_Attempt] = dataclasses.field(default_factory=list)
    done: dict[int, Done] = dataclasses.field(default_factory=dict)


class RayEngine:
    """Runs as many trials at once as the nodes of a cluster have room for.

    Of a trial that trains its worlds one after another, worlds are tasks: any node trains them, and
    one joins and scores them. A task whose node dies is run again on another one, and no other;
    one for which its share of a node's memory is not enough, with all of it.

    Args:
        cluster: where.
        on_event: takes each trial's start and the events that it emits.
        worlds_per_task: of a trial whose worlds are tasks.
    """

    def __init__(
        self,
        cluster: Cluster,
        on_event: OnEvent = lambda job, event: None,
        *,
        worlds_per_task: int = 1,
    ) -> None:
        if worlds_per_task < 1:
            raise ClusterError(f"worlds_per_task is {worlds_per_task}; expected at least 1")
        self._cluster = cluster
        self._on_event = on_event
        self._worlds_per_task = worlds_per_task
        self._memory_bytes: dict[str, int] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}
        self._running: dict[Any, _Attempt] = {}
        self._by_name: dict[str, _Attempt] = {}
        here = ray.get_runtime_context().get_node_id()
        place = NodeAffinitySchedulingStrategy(here, soft=False)
        # Where a node's memory runs out Ray may end this as well as a trial.
        lives_on = {"max_restarts": -1, "max_task_retries": -1}
        actor = ray.remote(_Events).options(num_cpus=0, scheduling_strategy=place, **lives_on)
        self._events = actor.remote()

    def prepare(self, trials: Sequence[Trial], note: Callable[[str], None]) -> None:
        """Prepare the trials' data once on every node, and find it to be the same.

        Raises:
            ClusterError: a node has other data under the same name.
        """
        cluster, nodes = self._cluster, self._cluster.nodes()
        for trial in {repr(trial.data): trial for trial in trials}.values():
            asked = [
                _prepare.options(
                    scheduling_strategy=node.place(), num_cpus=cluster.share.num_threads
                ).remote(trial, cluster.context)
                for node in nodes
            ]
            found: dict[str, str | None] = {}
            for node, ref in zip(nodes, asked, strict=True):
                found[node.address], notes = _answer(ref, node, seconds=None)
                for text in notes:
                    note(f"node {node.address}: {text}")
            for address, fingerprint in found.items():
                name = f"fingerprint of {trial.data.name}"
                refuse_other(address, {name: fingerprint}, {name: found[nodes[0].address]})

    def run(self, jobs: Iterable[Job | None]) -> Generator[Record]:
        """Records as trials end."""
        waiting: Iterator[Job | None] | None = iter(jobs)
        try:
            while waiting is not None or self._running:
                while waiting is not None and len(self._running) < self._cluster.num_places():
                    try:
                        job = next(waiting)
                    except StopIteration:
                        waiting = None
                        break
                    if job is None:
                        break
                    self._begin(job)
                yield from self._ended()
        finally:
            self._cancel(list(self._running))

    def _begin(self, job: Job) -> None:
        """Start a trial; one whose worlds are tasks by asking what one takes, once a row."""
        attempt = self._attempt(job)
        known = self._asked.get(job.trial.cost_id)
        if attempt.split is not None and known is not None:
            attempt.partial = {"memory": known}
            self._go_on(attempt, attempt.split)
        else:
            self._start(attempt)

    def _attempt(self, job: Job) -> _Attempt:
        share = self._cluster.share
        known = self._memory_bytes.get(job.trial.cost_id, share.memory_bytes)
        attempt = _Attempt(
            job=dataclasses.replace(
                job, num_threads=share.num_threads, study_file=self._cluster.study_file
            ),
            share=dataclasses.replace(share, memory_bytes=known),
        )
        if len(job.parts) > self._worlds_per_task:
            attempt.worlds = job.parts.start, job.parts.start
            attempt.split = _Split(started_at=provenance.utc_now(), began=time.monotonic())
        return attempt

    def _start(self, attempt: _Attempt) -> None:
        attempt.started_at, attempt.partial = provenance.utc_now(), {}
        name = f"{attempt.job.trial.trial_id}-{len(self._by_name)}"
        context = dataclasses.replace(
            self._cluster.context,
            memory_bytes=attempt.share.memory_bytes,
            worlds=attempt.worlds,
        )
        told = self._cluster.versions | _kind(self._cluster.machine)
        shards: list[Any] = []
        if attempt.split is not None and attempt.worlds is None:
            shards = [task.shard for task in attempt.split.tasks]
        ref, attempt.shard = _run.options(
            name=name, num_returns=2, **attempt.share.to_ray()
        ).remote(attempt.job, context, told, name, self._events, *shards)
        self._running[ref] = self._by_name[name] = attempt

    def _go_on(self, ended: _Attempt, split: _Split) -> None:
        """Start what a trial's worlds need next: their tasks, or the one that joins them."""
        if not split.tasks:
            worlds = parts.ranges_of(ended.job.parts, self._worlds_per_task)
            share = self._share_of_worlds(ended)
            split.tasks = [dataclasses.replace(ended, worlds=w, share=share) for w in worlds]
            for task in split.tasks:
                self._start(task)
        elif len(split.done) == len(split.tasks):
            self._start(dataclasses.replace(ended, worlds=None, share=self._cluster.share))

    def _share_of_worlds(self, asked: _Attempt) -> Share:
        """What a task of worlds takes: memory and part of a GPU by predicted bytes.

        And as many threads as a whole trial, for bits go by them.
        """
        cluster = self._cluster
        needed = parts.host_bytes(asked.partial.get("memory", {}))
        gpus = parts.gpu_share(asked.partial.get("memory", {}), cluster.device_bytes)
        if gpus is not None:
            return dataclasses.replace(asked.share, num_gpus=gpus)
        if needed is None or cluster.device_bytes is not None:
            return asked.share
        return dataclasses.replace(
            asked.share, memory_bytes=min(needed, cluster.whole.memory_bytes)
        )

    def _ended(self) -> Iterator[Record]:
        """Records of the trials that end within a moment; what is run again is started."""
        refs = list(self._running)
        if refs:
            ended, _ = ray.wait(refs, num_returns=len(refs), timeout=LOOK_SECONDS)
        else:
            time.sleep(LOOK_SECONDS)
            return
        self._hear()
        for ref in ended:
            if ref not in self._running:  # of a trial that has failed by another task
                continue
            attempt = self._running.pop(ref)
            outcome = self._outcome(ref, attempt)
            if outcome is not None:
                self._cancel(
                    [ref for ref, other in self._running.items() if _is_of(attempt, other)]
                )
                yield outcome

    def _hear(self) -> None:
        """Pass on what trials have emitted, but for those that have been given up."""
        current = {id(attempt) for attempt in self._running.values()}
        for name, event in ray.get(self._events.take.remote()):
            attempt = self._by_name[name]
            if id(attempt) not in current:
                continue
            if event["event"] == "partial":
                blocks = {key: block for key, block in event.items() if key != "event"}
                attempt.partial = merged(attempt.partial, blocks)
            split = attempt.split
            if split is not None and event["event"] == "start":
                if split.is_told:
                    continue
                split.is_told = True
            if split is not None and attempt.worlds is not None:
                event = _of_all(event, attempt, split)
            self._on_event(attempt.job, event)

    def _outcome(self, ref: Any, attempt: _Attempt) -> Record | None:
        """The record of a trial whose task has ended; None where something is to run yet."""
        split = attempt.split
        try:
            found: Record
            found, node_id = ray.get(ref)
        except OutOfMemoryError:
            reason = "killed by Ray because the memory of its node ran out"
            found = self._failed(attempt, "oom", reason)
        except RayError as error:
            # What a task was to be given is gone: Ray raises that inside of the task.
            cause = error.cause if isinstance(error, RayTaskError) else error
            if not isinstance(cause, NodeDiedError | WorkerCrashedError | ObjectLostError):
                raise ClusterError(_first_line(error)) from error
            attempt.num_deaths += 1
            if attempt.num_deaths >= _MOST_DEATHS:
                reason = f"{attempt.num_deaths} times its node or Ray's worker there died"
                return self._failed(attempt, "error", reason)
            joins = split if attempt.worlds is None else None
            are_lost = isinstance(cause, ObjectLostError)
            if joins is not None and self._lose(attempt, joins, are_lost=are_lost):
                return None
            self._note(attempt, f"its node died ({type(cause).__name__})")
            self._start(attempt)
            return None
        whole = self._cluster.whole.memory_bytes
        if found.status == "oom" and attempt.share.memory_bytes < whole:
            self._memory_bytes[attempt.job.trial.cost_id] = whole
            attempt.share = dataclasses.replace(attempt.share, memory_bytes=whole)
            self._note(attempt, "its share of a node's memory was not enough")
            self._start(attempt)
            return None
        if split is None:
            return found
        if found.status != "done":
            reason = f"{_name_of(attempt)}: {found.reason}"
            payload = {"data": found.raw.get("data"), "memory": found.raw.get("memory")}
            attempt.partial = merged(payload, attempt.partial)
            return self._failed(attempt, found.status, reason)
        if attempt.worlds is None:
            done = [split.done[first] for first in sorted(split.done)]
            wall_seconds = time.monotonic() - split.began
            return parts.joined(found, done, started_at=split.started_at, wall_seconds=wall_seconds)
        if split.tasks:
            worlds = attempt.worlds
            split.done[worlds[0]] = Done(worlds=worlds, node_id=node_id, record=found)
        else:
            self._asked[attempt.job.trial.cost_id] = found.block("memory")
            attempt.partial = {"memory": found.block("memory")}
        self._go_on(attempt, split)
        return None

    def _lose(self, attempt: _Attempt, split: _Split, *, are_lost: bool) -> bool:
        """Train again the worlds that lay on a node which is gone; whether there are any.

        Where worlds are lost and all nodes are there nevertheless, it is not known which.
        """
        alive = {node.node_id for node in self._cluster.nodes()}
        lost = [task for task in split.tasks if split.done[_first(task)].node_id not in alive]
        if are_lost and not lost:
            lost = split.tasks
        for task in lost:
            task.num_deaths = attempt.num_deaths
            del split.done[_first(task)]
            self._note(task, "the node that kept its worlds died")
            self._start(task)
        return bool(lost)

    def _note(self, attempt: _Attempt, why: str) -> None:
        text = f"{_name_of(attempt)} runs again: {why}"
        self._on_event(attempt.job, {"event": "note", "text": text})

    def _failed(self, attempt: _Attempt, status: Any, reason: str) -> Record:
        origin = dict(attempt.job.provenance) | {"machine": self._cluster.machine}
        return build_record(
            dataclasses.replace(attempt.job, provenance=origin),
            started_at=attempt.split.started_at if attempt.split else attempt.started_at,
            status=status,
            reason=reason,
            payload=attempt.partial,
        )

    def _cancel(self, refs: Sequence[Any]) -> None:
        """End tasks that still run: a trial's process dies with Ray's worker."""
        for ref in refs:
            ray.cancel(ref, force=True)
            del self._running[ref]
        if refs:
            ray.wait(list(refs), num_returns=len(refs), timeout=_END_SECONDS)


class _Events:
    """What trials emit, until the driver asks for it; lives on the driver's node."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Event]] = []

    def put(self, name: str, event: Event) -> None:
        self._events.append((name, event))

    def take(self) -> list[tuple[str, Event]]:
        events, self._events = self._events, []
        return events


@ray.remote(max_retries=0, max_calls=1)
def _look(
    context: Context, study_file: Path | None
) -> tuple[Mapping[str, Any], Mapping[str, Any], int | None]:
    """Versions on this node, what machine it is, and the memory of its GPU."""
    files.require_writable(_local(context).cache_dir, "logs")
    device_bytes = provenance.accelerator_bytes() if context.accelerator == "gpu" else None
    return _versions(study_file), _machine(context), device_bytes


@ray.remote(max_retries=0, max_calls=1)
def _prepare(trial: Trial, context: Context) -> tuple[str | None, list[str]]:
    """Fingerprint of a trial's data, prepared on this node; None: the trial will say why not."""
    notes: list[str] = []
    try:
        facts = facts_of(trial, _local(context), notes.append)
    except ChildFailed:
        return None, notes
    return facts.get("fingerprint"), notes


@ray.remote(max_retries=0, max_calls=1)
def _run(
    job: Job,
    context: Context,
    told: Mapping[str, Any],
    name: str,
    events: Any,
    *shards: Shard,
) -> tuple[tuple[Record, str], Shard]:
    """Run a trial or worlds of it on this node, which may have joined since the driver looked.

    Returns:
        The record and the node; and the worlds, where they were asked for.
    """
    machine = _machine(context)
    here = ray.get_runtime_context().get_node_id()
    refuse_other(here, _versions(job.study_file) | _kind(machine), told)
    origin = dict(job.provenance) | {"machine": machine}
    keys: list[str] = []

    def emit(event: Event) -> None:
        if event["event"] == "world":
            keys.append(str(event["key"]))
        else:
            events.put.remote(name, dict(event))

    context = dataclasses.replace(_local(context), emit=emit)
    for shard in shards:
        parts.write_shard(context.cache_dir, shard)
    found = run_job(dataclasses.replace(job, provenance=origin), context)
    if context.worlds is None:
        if found.status in ("done", "oom"):  # as the local engine does when it is written
            context.forget_checkpoints(job.trial)
        return (found, here), {}
    left = parts.read_shard(context.cache_dir, keys) if found.status == "done" else {}
    if job.trial.replicate and not context.keep_models:
        parts.forget(context.cache_dir, keys)
    return (found, here), left


def _is_of(attempt: _Attempt, other: _Attempt) -> bool:
    """Whether two tasks are of one trial."""
    return attempt.split is not None and other.split is attempt.split


def _first(task: _Attempt) -> int:
    assert task.worlds is not None
    return task.worlds[0]


def _name_of(attempt: _Attempt) -> str:
    """A task for messages: its trial, and which worlds."""
    trial_id = attempt.job.trial.trial_id
    if attempt.worlds is None or attempt.worlds[0] == attempt.worlds[1]:
        return trial_id
    first, stop = attempt.worlds
    words = f"world {first}" if stop == first + 1 else f"worlds {first} to {stop - 1}"
    return f"{words} of {trial_id}"


def _of_all(event: Event, attempt: _Attempt, split: _Split) -> Event:
    """Progress of some worlds as that of all."""
    if event.get("fraction") is None:
        return event
    before = (_first(attempt) - attempt.job.parts.start) / len(attempt.job.parts)
    attempt.fraction = event["fraction"] - before
    return {**event, "fraction": sum(task.fraction for task in split.tasks), "seconds_left": None}


def _local(context: Context) -> Context:
    """A context with its cache where this node has it."""
    text = os.path.expandvars(context.cache_dir)
    if "$" in text:
        raise ClusterError(f"node_cache_dir is {text!r}; expected variables that a node has")
    return dataclasses.replace(context, cache_dir=Path(text).expanduser())


def _machine(context: Context) -> Mapping[str, Any]:
    is_gpu = context.accelerator == "gpu"
    return provenance.machine(accelerator=provenance.accelerator_name() if is_gpu else None)


def _kind(machine: Mapping[str, Any]) -> dict[str, str]:
    """Machines are of one kind where their files of records are called the same."""
    return {"machine": provenance.machine_slug(machine)}


def _versions(study_file: Path | None) -> dict[str, str | None]:
    """All that must be the same on every node, by name."""
    found = {"python": platform.python_version(), **provenance.package_versions()}
    found["code of bench and baselines"] = provenance.code_digest()
    if study_file is not None:
        content = study_file.read_bytes() if study_file.is_file() else None
        digest = None if content is None else hashlib.sha256(content).hexdigest()[:16]
        found[f"study file {study_file}"] = digest
    return found


def refuse_other(node: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a node of which something is not what it is elsewhere."""
    for name, value in expected.items():
        if found[name] != value:
            raise ClusterError(f"node {node}: {name} is {found[name]}; expected {value}")


def share_of(whole: Share, num_threads: int | None) -> Share:
    """A trial's, who has the same share of a node's CPUs, memory and GPUs, but never two GPUs."""
    default = whole.num_threads // max(1, int(whole.num_gpus)) or 1
    num_threads = num_threads or default
    if num_threads > whole.num_threads:
        raise ClusterError(
            f"num_threads is {num_threads}; expected at most {whole.num_threads}, the CPUs of the "
            "smallest node"
        )
    part = num_threads / whole.num_threads
    return Share(
        num_threads=num_threads,
        num_gpus=min(1.0, int(1e4 * part * whole.num_gpus) / 1e4),
        memory_bytes=int(part * whole.memory_bytes),
    )


def _answer(ref: Any, node: Node, seconds: float | None = _ANSWER_SECONDS) -> Any:
    """What a task on a node returned."""
    try:
        return ray.get(ref, timeout=seconds)
    except GetTimeoutError:
        raise ClusterError(
            f"node {node.address} has not answered for {seconds:g} seconds"
        ) from None
    except RayTaskError as error:
        raise ClusterError(f"node {node.address}: {_first_line(error.cause or error)}") from error
    except RayError as error:
        raise ClusterError(f"node {node.address}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    text = str(error.cause or error) if isinstance(error, RayTaskError) else str(error)
    return (text.strip() or type(error).__name__).splitlines()[-1 if "Traceback" in text else 0]
