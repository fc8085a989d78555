"""Rows of the federation's side."""

from federation.models.campaigns import Campaign
from federation.models.claims import ClaimClock, ClaimShare
from federation.models.federations import BaseModel, Enrolment, Federation, Schedule
from federation.models.personal import PersonalPrefix
from federation.models.prefixes import PrefixVersion, PublishedPrefix, PublishRecord
from federation.models.residuals import Residual
from federation.models.rounds import Evaluation, FederatedRound, LocalRun, RoundEvent
from federation.models.trainer_logs import TrainerLogTail
from federation.models.webhooks import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookPlace,
    WebhookSecret,
)

__all__ = [
    "BaseModel",
    "Campaign",
    "ClaimClock",
    "ClaimShare",
    "Enrolment",
    "Evaluation",
    "FederatedRound",
    "Federation",
    "LocalRun",
    "PersonalPrefix",
    "PrefixVersion",
    "PublishRecord",
    "PublishedPrefix",
    "Residual",
    "RoundEvent",
    "Schedule",
    "TrainerLogTail",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookPlace",
    "WebhookSecret",
]
