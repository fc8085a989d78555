"""A campaign from its start to its end: the coordinator opens each of its rounds when the one before has ended.

Nothing but rows says how far it is, so that whoever looks next goes on: a message, or the reconciler when it was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from django.db import transaction

from federation.errors import CampaignInProgress
from federation.models import Campaign, Federation
from federation.services import admission, rounds
from federation.states import CAMPAIGN_LIVE, ROUND_LIVE, CampaignState, RoundState
from tenants.errors import PreludeError
from tenants.services import audit

FAILED_IN_A_ROW: Final = 3
"""So many rounds that fail one after the other end a campaign: what fails them is nothing that will pass."""


@dataclass(frozen=True)
class Ending:
    """How a campaign ends, and why."""

    state: CampaignState
    reason: str


def start_campaign(
    *, federation: Federation, n_rounds: int, patience: int | None = None, evaluate_every: int = 1
) -> Campaign:
    """Open the first of `n_rounds` rounds; the coordinator opens the others.

    Raises what `rounds.start_round` raises, CampaignInProgress among it; then nothing has changed.
    """
    with transaction.atomic():
        admission.one_at_a_time()
        federation.lock()
        live = Campaign.objects.filter(federation=federation, state__in=CAMPAIGN_LIVE).first()
        if live is not None:
            raise CampaignInProgress(federation_id=federation.public_id, campaign_id=live.public_id)
        campaign = Campaign.objects.create(
            federation=federation, n_rounds=n_rounds, patience=patience, evaluate_every=evaluate_every
        )
        after = audit.fields(campaign, "federation", "state", "n_rounds", "patience", "evaluate_every")
        audit.record(action="campaign.started", subject=campaign, after=after)
        rounds.start_round(federation=federation, campaign=campaign)
        campaign.tell_of_start()
        return campaign


def advance(*, campaign: Campaign) -> None:
    """Open the next round, or end the campaign, if no round of it is live; a message too many changes nothing.

    The locks are taken in the order in which every opening of a round takes them.
    """
    with transaction.atomic():
        admission.one_at_a_time()
        campaign.federation.lock()
        campaign.lock()
        if campaign.is_finished or campaign.rounds.filter(state__in=ROUND_LIVE).exists():
            return
        states = list(campaign.rounds.order_by("number").values_list("state", flat=True))
        ending = ending_of(campaign, states)
        if ending is not None:
            _end(campaign, ending)
            return
        try:
            rounds.start_round(federation=campaign.federation, campaign=campaign)
        except PreludeError as refusal:
            # Tenants read the reason. The refusal's text counts other tenants, so that it goes to operators alone.
            reason = f"Its round {len(states) + 1} could not open: {refusal.code}."
            _end(campaign, Ending(CampaignState.FAILED, reason), refusal=str(refusal))


def ending_of(campaign: Campaign, states: Sequence[str]) -> Ending | None:
    """How a campaign ends after rounds that ended like this, in their order; None: it goes on."""
    n_failed = len(list(takewhile(lambda state: state == RoundState.FAILED, reversed(states))))
    if n_failed >= min(FAILED_IN_A_ROW, campaign.n_rounds):
        return Ending(CampaignState.FAILED, f"{n_failed} rounds failed in a row.")
    if len(states) >= campaign.n_rounds and not _waits_for_its_score(campaign, states):
        return Ending(CampaignState.COMPLETED, f"Its {len(states)} rounds were held.")
    if campaign.patience is not None and _n_without_gain(campaign, states) >= campaign.patience:
        reason = f"Ended early: {campaign.patience} evaluated rounds in a row gave no better version."
        return Ending(CampaignState.COMPLETED, reason)
    return None


def _waits_for_its_score(campaign: Campaign, states: Sequence[str]) -> bool:
    """Whether the last candidate was not scored: the last round, which is, has failed, and the work would be lost."""
    last = max(
        (place for place, state in enumerate(states, start=1) if state != RoundState.FAILED), default=0
    )
    return last > 0 and states[last - 1] == RoundState.KEPT and not campaign.evaluates(last)


def _n_without_gain(campaign: Campaign, states: Sequence[str]) -> int:
    """Rounds whose candidate was scored and kept, since the last one that was published."""
    n = 0
    for place, state in enumerate(states, start=1):
        if state == RoundState.PUBLISHED:
            n = 0
        elif state == RoundState.KEPT and campaign.evaluates(place):
            n += 1
    return n


def cancel_campaign(*, campaign: Campaign, actor: str) -> Campaign:
    """End the campaign now, and its live round with it; what it has published stays.

    Raises CampaignStateConflict when it has ended already.
    """
    with transaction.atomic():
        campaign.lock()
        _end(campaign, Ending(CampaignState.CANCELED, f"Canceled by {actor}."))
        live = campaign.rounds.filter(state__in=ROUND_LIVE).first()
        if live is not None:
            live.lock()
            if not live.is_finished:  # else it ended while its lock was waited for
                rounds.call_off(federated_round=live, actor=actor)
        return campaign


def _end(campaign: Campaign, ending: Ending, **facts: object) -> None:
    before = audit.fields(campaign, "state")
    campaign.move_to(ending.state, reason=ending.reason)
    after = {"state": ending.state, "reason": ending.reason, **facts}
    audit.record(action=f"campaign.{ending.state}", subject=campaign, before=before, after=after)
