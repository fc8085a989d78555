"""Random interleavings of everything that can befall rounds, held against a small model of what should come of them."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from safetensors.numpy import load

from federation import tasks
from federation.errors import RoundInProgress, RoundStateConflict
from federation.models import (
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PrefixVersion,
    PublishedPrefix,
    PublishRecord,
    RoundEvent,
)
from federation.services import local_runs, reconciling, rounds
from federation.states import EvaluationState, LocalRunState, RoundState
from tenants import scoping, storage
from tenants.errors import LeaseLost
from tests.factories import ready_federation
from tests.federation import rounds as steps

N_TENANTS, QUORUM, TOLERANCE = 3, 2, 0.04  # no mean of the scores below differs from another by the tolerance
SCORES = st.sampled_from([0.3, 0.6, 0.9])
TENANTS = st.integers(0, N_TENANTS - 1)
_L, _R = LocalRunState, RoundState


@dataclass
class RunModel:
    """What a local run should be."""

    state: str = _L.QUEUED
    attempt: int = 0
    update: Any = None
    is_sound: bool = True


@dataclass
class Claim:
    """A worker's belief that it holds a run: fresh or long overtaken."""

    row: LocalRun
    tenant: int
    round_number: int


@dataclass
class RoundModel:
    """What a round should be."""

    state: str = _R.TRAINING
    is_late: bool = False
    runs: list[RunModel] = field(default_factory=lambda: [RunModel() for _ in range(N_TENANTS)])
    scores: dict[int, float] = field(default_factory=dict)  # of the candidate


class RoundMachine(RuleBasedStateMachine):
    """Three tenants, a quorum of two, rounds one after the other."""

    claims = Bundle("claims")
    ends: ClassVar[Counter[str]] = (
        Counter()
    )  # over all examples: a walk that never got anywhere proves nothing

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()

    def teardown(self) -> None:
        """The next example begins with an empty database."""
        self.ends[self.model.state] += 1
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize(n_worked=st.sampled_from([0, 1, N_TENANTS, N_TENANTS]))
    def open(self, n_worked: int) -> None:
        """A first round, in which some tenants have done their work already."""
        self.federation: Federation = ready_federation(
            n_tenants=N_TENANTS, quorum=QUORUM, gate={"tolerance": TOLERANCE}
        )
        self.n_versions, self.n_published, self.number = 1, 0, 0
        self.model = RoundModel(state=_R.FAILED)
        self.parent_scores: dict[int, float] = {}
        self.begin()
        for tenant in range(n_worked):
            self.work(tenant, seed=tenant)

    @rule()
    def begin(self) -> None:
        """A round is asked for, whether or not one is live."""
        if self.is_live():
            with pytest.raises(RoundInProgress):
                steps.start(self.federation)
            return
        self.ends[self.model.state] += 1
        self.round = steps.start(self.federation)
        self.rows = steps.runs_of(self.round)
        self.number += 1
        self.model = RoundModel()

    def is_live(self) -> bool:
        return self.model.state in (_R.TRAINING, _R.AGGREGATING, _R.EVALUATING)

    @rule(target=claims, tenant=TENANTS)
    def claim(self, tenant: int) -> Claim:
        """A worker takes the run, or is told that there is nothing to take."""
        run = self.model.runs[tenant]
        claim = Claim(self.rows[tenant], tenant, self.number)
        if run.state == _L.QUEUED:
            claim.row = steps.claim(self.rows[tenant])
            run.state, run.attempt = _L.RUNNING, run.attempt + 1
        else:
            with pytest.raises(LeaseLost):
                steps.claim(self.rows[tenant])
        return claim

    def holds(self, claim: Claim) -> bool:
        run = self.model.runs[claim.tenant]
        return (
            claim.round_number == self.number and run.state == _L.RUNNING and claim.row.attempt == run.attempt
        )

    @rule(claim=claims)
    def beat(self, claim: Claim) -> None:
        """A worker is heard of, perhaps one that lost its run long ago."""
        holds = self.holds(claim)
        with scoping.tenant(claim.row.tenant_id):
            if holds:
                claim.row.keep(progress={"step": 1})
            else:
                with pytest.raises(LeaseLost):
                    claim.row.keep(progress={"step": 1})

    @rule(claim=claims, seed=st.integers(0, 9), is_sound=st.sampled_from([True, True, True, False]))
    def submit(self, claim: Claim, seed: int, is_sound: bool) -> None:
        """A worker hands an update in, sound or far too large."""
        holds, run = self.holds(claim), self.model.runs[claim.tenant]
        values = steps.change(seed)
        if not is_sound:
            values *= 1e4
        update = steps.update_bytes(claim.row, values)
        with scoping.tenant(claim.row.tenant_id):
            if not holds:
                with pytest.raises(LeaseLost):
                    local_runs.submit_update(local_run=claim.row, update=update, metrics={})
                return
            local_runs.submit_update(local_run=claim.row, update=update, metrics={})
        run.state, run.update, run.is_sound = _L.SUBMITTED, values, is_sound

    @rule(claim=claims)
    def give_up(self, claim: Claim) -> None:
        """A worker reports a fault of the work."""
        holds = self.holds(claim)
        with scoping.tenant(claim.row.tenant_id):
            if not holds:
                with pytest.raises(LeaseLost):
                    local_runs.fail_local_run(local_run=claim.row, code="loss_not_finite", reason="NaN")
                return
            local_runs.fail_local_run(local_run=claim.row, code="loss_not_finite", reason="NaN")
        self.model.runs[claim.tenant].state = _L.FAILED

    @rule(tenant=TENANTS)
    def lose_worker(self, tenant: int) -> None:
        """A lease runs out, and a reconciler looks, which looks at the rounds too."""
        run = self.model.runs[tenant]
        with scoping.platform():
            expired = LocalRun.objects.filter(pk=self.rows[tenant].pk, state=_L.RUNNING)
            n_expired = expired.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
            reconciling.reconcile()
        assert n_expired == (run.state == _L.RUNNING)
        if run.state == _L.RUNNING:
            run.state = _L.FAILED if run.attempt >= settings.MAX_ATTEMPTS else _L.QUEUED

    @rule(n_times=st.integers(1, 2))
    def advance(self, n_times: int) -> None:
        """The coordinator's message about the round arrives, whether or not an update waits to be checked."""
        for _ in range(n_times):
            tasks.advance(self.round.public_id)
        self.advanced()

    @precondition(lambda self: self.is_live())
    @rule()
    def pass_deadline(self) -> None:
        """The time of the phase that the round is in is over."""
        with scoping.platform():
            FederatedRound.objects.filter(pk=self.round.pk).update(
                deadline_at=timezone.now() - timedelta(seconds=1)
            )
        self.model.is_late = True

    @rule(is_meant=st.sampled_from([True, False, False]))
    def cancel(self, is_meant: bool) -> None:
        """Somebody cancels the round, which may have ended; not at every third step, or none would get anywhere."""
        if not is_meant and self.is_live():
            return
        with scoping.platform():
            if not self.is_live():
                with pytest.raises(RoundStateConflict):
                    rounds.cancel_round(federated_round=self.round, actor="operator:anna")
                return
            rounds.cancel_round(federated_round=self.round, actor="operator:anna")
        for run in self.model.runs:
            if run.state in (_L.QUEUED, _L.RUNNING, _L.SUBMITTED):
                run.state = _L.CANCELED
        self.model.state = _R.CANCELED

    @rule(tenant=TENANTS, accuracy=SCORES)
    def score_parent(self, tenant: int, accuracy: float) -> None:
        """A tenant measures the version from which the round began."""
        if self.score(self.round.parent_version, tenant, accuracy):
            self.parent_scores[tenant] = accuracy

    @precondition(lambda self: self.model.state == _R.EVALUATING)
    @rule(tenant=TENANTS, accuracy=SCORES)
    def score_candidate(self, tenant: int, accuracy: float) -> None:
        """A tenant measures the candidate."""
        if self.score(steps.reload(self.round).candidate_version, tenant, accuracy):
            self.model.scores[tenant] = accuracy

    def score(self, version: PrefixVersion | None, tenant: int, accuracy: float) -> bool:
        with scoping.platform():
            asked = Evaluation.objects.filter(
                version=version, dataset=self.rows[tenant].dataset, state=EvaluationState.QUEUED
            )
            evaluation = asked.first()
        if evaluation is not None:
            steps.score(evaluation, accuracy)
        return evaluation is not None

    @rule(target=claims, tenant=TENANTS, seed=st.integers(0, 9))
    def work(self, tenant: int, seed: int) -> Claim:
        """A worker takes the run and does it: the usual way, which chance alone would seldom go."""
        claim = cast(Claim, self.claim(tenant))
        self.submit(claim, seed, True)
        self.advance(1)
        return claim

    @precondition(lambda self: self.model.state == _R.EVALUATING)
    @rule(parent=SCORES, candidates=st.lists(SCORES, min_size=N_TENANTS, max_size=N_TENANTS))
    def score_all(self, parent: float, candidates: list[float]) -> None:
        """All tenants measure both versions, and the coordinator looks."""
        for tenant, candidate in enumerate(candidates):
            self.score_parent(tenant, parent)
            self.score_candidate(tenant, candidate)
        self.advance(1)

    def advanced(self) -> None:
        """What a look of the coordinator at the round should make of it."""
        model = self.model
        for run in model.runs:
            if run.state == _L.SUBMITTED:
                run.state = _L.ACCEPTED if run.is_sound else _L.REJECTED
        if model.state == _R.TRAINING:
            self.trained()
        if model.state == _R.EVALUATING:
            self.evaluated()

    def trained(self) -> None:
        model = self.model
        if model.is_late:
            for run in model.runs:
                if run.state in (_L.QUEUED, _L.RUNNING):
                    run.state = _L.FAILED
        if any(run.state in (_L.QUEUED, _L.RUNNING, _L.SUBMITTED) for run in model.runs):
            return
        if sum(run.state == _L.ACCEPTED for run in model.runs) < QUORUM:
            model.state = _R.FAILED
            return
        model.state, model.is_late = _R.EVALUATING, False
        self.n_versions += 1

    def evaluated(self) -> None:
        model = self.model
        if not model.is_late and min(len(model.scores), len(self.parent_scores)) < N_TENANTS:
            return
        both = [tenant for tenant in model.scores if tenant in self.parent_scores]
        if len(both) < QUORUM:
            model.state = _R.FAILED
            return
        gained = sum(model.scores[tenant] - self.parent_scores[tenant] for tenant in both) / len(both)
        if gained < -TOLERANCE:
            model.state = _R.KEPT
            return
        model.state = _R.PUBLISHED
        self.n_published += 1
        self.parent_scores = dict(model.scores)

    @invariant()
    def the_database_is_as_the_model(self) -> None:
        with scoping.platform():
            found = FederatedRound.objects.select_related("candidate_version").get(pk=self.round.pk)
            assert found.state == self.model.state, found.state_reason
            runs = LocalRun.objects.filter(federated_round=found).order_by("tenant_id")
            assert [(run.state, run.attempt) for run in runs] == [
                (run.state, run.attempt) for run in self.model.runs
            ]
            assert all((run.lease_expires_at is not None) == (run.state == _L.RUNNING) for run in runs)
            versions = PrefixVersion.objects.filter(federation=self.federation)
            assert versions.count() == self.n_versions
            assert (
                PublishRecord.objects.filter(federation=self.federation, actor="gate").count()
                == self.n_published
            )
            pointer = PublishedPrefix.objects.get(federation=self.federation).version
            if found.state == _R.PUBLISHED:
                assert pointer == found.candidate_version
            else:
                assert pointer == found.parent_version

    @invariant()
    def each_end_is_told_once(self) -> None:
        with scoping.platform():
            kinds = list(
                RoundEvent.objects.filter(federated_round=self.round).values_list(
                    "kind", "tenant", named=False
                )
            )
        ended = [
            kind
            for kind in kinds
            if kind[0].rpartition(".")[2] in ("accepted", "rejected", "published", "kept")
        ]
        assert len(set(ended)) == len(ended)

    @precondition(lambda self: self.model.state == _R.EVALUATING and not self.model.scores)
    @invariant()
    def the_candidate_is_the_mean_of_what_was_accepted(self) -> None:
        with scoping.platform():
            found = FederatedRound.objects.select_related("candidate_version", "parent_version").get(
                pk=self.round.pk
            )
        assert found.candidate_version is not None
        parent, candidate = (
            load(storage.get(version.sha256, max_bytes=10**6))["prompt_embeddings"]
            for version in (found.parent_version, found.candidate_version)
        )
        accepted = [run.update for run in self.model.runs if run.state == _L.ACCEPTED]
        mean = np.mean(np.stack(accepted).astype(np.float64), axis=0)
        np.testing.assert_allclose(candidate, parent + mean, rtol=0, atol=1e-6)


@pytest.mark.django_db
def test_rounds_end_as_the_model_says_whatever_comes_between() -> None:
    run_state_machine_as_test(
        RoundMachine,
        settings=hypothesis_settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
    assert set(RoundMachine.ends) >= {_R.FAILED, _R.CANCELED}
    assert {_R.PUBLISHED, _R.KEPT} & set(RoundMachine.ends), "no walk came as far as the gate"
