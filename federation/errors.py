"""Refusals of the federation's side, each with a stable code. No HTTP here: `api.errors` maps classes to statuses."""

from typing import ClassVar

from tenants.errors import PreludeError

# Update refusals: why a tenant's update does not count. `federation.aggregation` raises them.


class UpdateRefused(PreludeError):
    """A tenant's update may not count. One class per reason derives from this."""

    code = "update_refused"


class UpdateTooLarge(UpdateRefused):
    """More bytes than the parent version's tensors and a header can need; nothing of it was read."""

    code = "update_too_large"

    def __init__(self, *, size_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"The update has {size_bytes} bytes; for this parent version at most {max_bytes} are read."
        )


class UpdateTruncated(UpdateRefused):
    """The bytes end before what the header announces."""

    code = "update_truncated"

    def __init__(self, *, size_bytes: int, wanted_bytes: int) -> None:
        super().__init__(f"The update ends after {size_bytes} bytes; it announces {wanted_bytes}.")


class UpdateHeaderTooLarge(UpdateRefused):
    """The header is longer than any honest update needs."""

    code = "update_header_too_large"

    def __init__(self, *, header_bytes: int, max_bytes: int) -> None:
        super().__init__(f"The update's header has {header_bytes} bytes; at most {max_bytes} are read.")


class UpdateNotSafetensors(UpdateRefused):
    """The bytes are not a safetensors file."""

    code = "update_not_safetensors"

    def __init__(self, *, problem: str) -> None:
        super().__init__(f"The update is not a safetensors file: {problem}.")


class UpdateIsPickle(UpdateRefused):
    """A pickle, which could run code when it is loaded; it was not."""

    code = "update_is_pickle"

    def __init__(self) -> None:
        super().__init__("The update is a Python pickle. Only safetensors files are read; it was not loaded.")


class UpdateIsArchive(UpdateRefused):
    """A compressed archive, a PyTorch checkpoint among them; it was not unpacked."""

    code = "update_is_archive"

    def __init__(self, *, kind: str) -> None:
        super().__init__(
            f"The update is a {kind} archive. Only safetensors files are read; it was not unpacked."
        )


class UpdateNamesDiffer(UpdateRefused):
    """Not the same set of tensors as the parent version."""

    code = "update_names_differ"

    def __init__(self, *, missing: list[str], unknown: list[str]) -> None:
        super().__init__(
            f"The update's tensors are not the parent version's: {_listed(missing)} missing, "
            f"{_listed(unknown)} unknown."
        )


class UpdateShapeDiffers(UpdateRefused):
    """A tensor whose shape is not the parent version's; NumPy would broadcast some of these in silence."""

    code = "update_shape_differs"

    def __init__(self, *, name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(
            f"Tensor {name!r} of the update has the shape {_shortened(found)}; {expected} is taken."
        )


class UpdateDtypeDiffers(UpdateRefused):
    """A tensor whose dtype is not the parent version's."""

    code = "update_dtype_differs"

    def __init__(self, *, name: str, found: str, expected: str) -> None:
        super().__init__(
            f"Tensor {name!r} of the update has the dtype {_shortened(found)}; {expected} is taken."
        )


class UpdateNotFinite(UpdateRefused):
    """A tensor holds a NaN or an infinity: one such value would ruin the mean of all tenants."""

    code = "update_not_finite"

    def __init__(self, *, name: str, n_values: int) -> None:
        super().__init__(
            f"Tensor {name!r} of the update holds {n_values} values that are NaN or infinite; none may be."
        )


class UpdateNormTooLarge(UpdateRefused):
    """The change is larger, against the parent version, than the federation allows."""

    code = "update_norm_too_large"

    def __init__(self, *, relative_norm: float, max_relative_norm: float) -> None:
        super().__init__(
            f"The update's norm is {relative_norm:.4g} of its parent version's; "
            f"at most {max_relative_norm:.4g} counts."
        )


class UpdateOriginDiffers(UpdateRefused):
    """The update's metadata do not name what was asked for. One class per field derives from this."""

    code = "update_wrong_origin"
    field: ClassVar[str] = "origin"

    def __init__(self, *, found: object, expected: str) -> None:
        super().__init__(f"The update names the {self.field} {_shortened(found)}; {expected!r} is taken.")


class UpdateFromWrongRound(UpdateOriginDiffers):
    """An update of another round: a replay, or one that came too late."""

    code = "update_wrong_round"
    field = "round"


class UpdateFromWrongTenant(UpdateOriginDiffers):
    """An update that another tenant made."""

    code = "update_wrong_tenant"
    field = "tenant"


class UpdateFromWrongAttempt(UpdateOriginDiffers):
    """An update of an attempt that does not hold the local run (any more)."""

    code = "update_wrong_attempt"
    field = "attempt"


class UpdateForWrongBase(UpdateOriginDiffers):
    """An update that was trained on another base model's weights."""

    code = "update_wrong_base"
    field = "base"


class UpdateForWrongParent(UpdateOriginDiffers):
    """An update against another prefix version than the round's parent."""

    code = "update_wrong_parent"
    field = "parent"


# Aggregation refusals: the round's inputs as a whole.


class WeightInvalid(PreludeError):
    """A weight that is not a positive, finite number, or a count of examples below one."""

    code = "weight_invalid"

    def __init__(self, *, weight: float) -> None:
        super().__init__(f"An update has the weight {weight}; weights are positive and finite.")


class NothingToAggregate(PreludeError):
    """An aggregation without a single update."""

    code = "nothing_to_aggregate"

    def __init__(self) -> None:
        super().__init__("No update was given to aggregate; at least one is needed.")


class TooFewUpdates(PreludeError):
    """A rule that withstands some bad updates needs enough good ones."""

    code = "too_few_updates"

    def __init__(self, *, rule: str, n_updates: int, n_needed: int) -> None:
        super().__init__(f"The rule {rule} works on {n_needed} updates or more; {n_updates} were accepted.")


class AggregateNotFinite(PreludeError):
    """The result does not fit into its dtype; the parent version stays."""

    code = "aggregate_not_finite"

    def __init__(self, *, name: str, dtype: str) -> None:
        super().__init__(
            f"The aggregated tensor {name!r} does not fit into {dtype}; nothing was made from it."
        )


_MAX_QUOTED = 80


def _shortened(value: object) -> str:
    """A value from outside, quoted and cut: error texts are stored and shown."""
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "…"


def _listed(names: list[str]) -> str:
    """Names for an error text: the first four, each quoted and cut."""
    if not names:
        return "none"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(_shortened(name) for name in names[:4]) + more


# Refusals of requests and of moves. Services and models raise them.


class SpecificationInvalid(PreludeError):
    """The specification has a faulty field."""

    code = "specification_invalid"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"The specification's field {field!r} is not valid: {problem}.")


class BaseModelNameTaken(PreludeError):
    """Base models have unique names."""

    code = "base_model_name_taken"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"A base model named {name!r} is registered already; choose another name.")


class BaseModelDirectoryInvalid(PreludeError):
    """A base model's directory must lie below the configured root."""

    code = "base_model_directory_invalid"

    def __init__(self, *, directory: str) -> None:
        super().__init__(f"{directory!r} is no relative path below the platform's root of base models.")


class BaseModelNotReady(PreludeError):
    """A federation needs a base model that the training side has read."""

    code = "base_model_not_ready"

    def __init__(self, *, base_model_id: str, state: str) -> None:
        super().__init__(f"Base model {base_model_id} is {state}; a federation needs one that is ready.")


class FederationNameTaken(PreludeError):
    """Federations have unique names."""

    code = "federation_name_taken"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"A federation named {name!r} exists already; choose another name.")


class FederationNotReady(PreludeError):
    """Rounds need a federation whose start prefix is there."""

    code = "federation_not_ready"

    def __init__(self, *, federation_id: str, state: str) -> None:
        super().__init__(f"Federation {federation_id} is {state}; rounds need one that is ready.")


class AlreadyInvited(PreludeError):
    """One enrolment per tenant and federation."""

    code = "already_invited"

    def __init__(self, *, tenant_id: str, federation_id: str) -> None:
        super().__init__(f"Tenant {tenant_id} has an enrolment in federation {federation_id} already.")


class NotInvited(PreludeError):
    """A tenant enrols where an operator has invited it."""

    code = "not_invited"

    def __init__(self, *, federation_id: str) -> None:
        super().__init__(
            f"There is no open invitation to federation {federation_id}; an operator can make one."
        )


class EnrolmentNotActive(PreludeError):
    """A personal prefix is grown on the dataset with which the tenant takes part."""

    code = "enrolment_not_active"

    def __init__(self, *, enrolment_id: str, state: str) -> None:
        super().__init__(
            f"Enrolment {enrolment_id} is {state}; only from an active one can a prefix be grown."
        )


class PersonalRuleInvalid(PreludeError):
    """The federation cannot serve the rule of a personal prefix, or the rule does not take a setting."""

    code = "personal_rule_invalid"

    def __init__(self, *, field: str, rule: str, problem: str) -> None:
        self.field = field
        super().__init__(f"A personal prefix by the rule {rule!r} cannot be grown: {field} {problem}.")


class PersonalPrefixLimitReached(PreludeError):
    """Each personal prefix is kept until it is deleted, so that their number is bounded."""

    code = "personal_prefix_limit_reached"

    def __init__(self, *, federation_id: str, limit: int) -> None:
        super().__init__(
            f"There are {limit} personal prefixes in federation {federation_id} already, the limit; delete one first."
        )


class PersonalPrefixNotCompleted(PreludeError):
    """There is nothing to download before a worker has grown it."""

    code = "personal_prefix_not_completed"

    def __init__(self, *, personal_prefix_id: str, state: str) -> None:
        super().__init__(
            f"Personal prefix {personal_prefix_id} is {state}; only a completed one is downloaded."
        )


class DatasetNotReady(PreludeError):
    """An enrolment needs a dataset that was found sound."""

    code = "dataset_not_ready"

    def __init__(self, *, dataset_id: str, state: str) -> None:
        super().__init__(f"Dataset {dataset_id} is {state}; an enrolment needs one that is ready.")


class DatasetDoesNotFit(PreludeError):
    """The dataset's rows are not what the federation's task trains on."""

    code = "dataset_does_not_fit"

    def __init__(self, *, dataset_id: str, problem: str) -> None:
        super().__init__(f"Dataset {dataset_id} does not fit the federation's task: {problem}.")


class QuorumOutOfReach(PreludeError):
    """A round is not opened when it cannot reach its quorum."""

    code = "quorum_out_of_reach"

    def __init__(self, *, federation_id: str, n_active: int, n_left_out: int, quorum: int) -> None:
        at_limit = f", {n_left_out} of them at a limit," if n_left_out else ""
        super().__init__(
            f"Federation {federation_id} has {n_active} active tenants{at_limit} and its rounds need {quorum}; "
            "enrol more first."
        )


class RoundInProgress(PreludeError):
    """One live round per federation."""

    code = "round_in_progress"

    def __init__(self, *, federation_id: str) -> None:
        super().__init__(
            f"Federation {federation_id} has a round in progress; wait for its end or cancel it."
        )


class CampaignInProgress(PreludeError):
    """One live campaign per federation, which opens all of its rounds meanwhile."""

    code = "campaign_in_progress"

    def __init__(self, *, federation_id: str, campaign_id: str) -> None:
        super().__init__(
            f"Federation {federation_id} is in campaign {campaign_id}, which opens its rounds; wait for its end or "
            "cancel it."
        )


class RoundOfCampaign(PreludeError):
    """A campaign's rounds are canceled with it: one of them alone would leave open what the next one begins from."""

    code = "round_of_campaign"

    def __init__(self, *, round_id: str, campaign_id: str) -> None:
        super().__init__(f"Round {round_id} belongs to campaign {campaign_id}; cancel the campaign.")


class StateConflict(PreludeError):
    """The state machine has no such move."""

    code = "state_conflict"
    kind: ClassVar[str] = "object"

    def _explain(self, public_id: str, state: str, wanted: str) -> str:
        return f"The {self.kind} {public_id} is {state} and cannot become {wanted}."


class RoundStateConflict(StateConflict):
    """The move is not in `states.ROUND_TRANSITIONS`."""

    code = "round_state_conflict"
    kind = "round"

    def __init__(self, *, round_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(round_id, state, wanted))


class CampaignStateConflict(StateConflict):
    """The move is not in `states.CAMPAIGN_TRANSITIONS`."""

    code = "campaign_state_conflict"
    kind = "campaign"

    def __init__(self, *, campaign_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(campaign_id, state, wanted))


class LocalRunStateConflict(StateConflict):
    """The move is not in `states.LOCAL_RUN_TRANSITIONS`."""

    code = "local_run_state_conflict"
    kind = "local run"

    def __init__(self, *, local_run_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(local_run_id, state, wanted))


class EvaluationStateConflict(StateConflict):
    """The move is not in `states.EVALUATION_TRANSITIONS`."""

    code = "evaluation_state_conflict"
    kind = "evaluation"

    def __init__(self, *, evaluation_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(evaluation_id, state, wanted))


class PersonalPrefixStateConflict(StateConflict):
    """The move is not in `states.PERSONAL_PREFIX_TRANSITIONS`."""

    code = "personal_prefix_state_conflict"
    kind = "personal prefix"

    def __init__(self, *, personal_prefix_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(personal_prefix_id, state, wanted))


class FederationStateConflict(StateConflict):
    """The move is not in `states.FEDERATION_TRANSITIONS`."""

    code = "federation_state_conflict"
    kind = "federation"

    def __init__(self, *, federation_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(federation_id, state, wanted))


class BaseModelStateConflict(StateConflict):
    """The move is not in `states.BASE_MODEL_TRANSITIONS`."""

    code = "base_model_state_conflict"
    kind = "base model"

    def __init__(self, *, base_model_id: str, state: str, wanted: str) -> None:
        super().__init__(self._explain(base_model_id, state, wanted))


class VersionOfAnotherFederation(PreludeError):
    """A federation publishes its own versions alone."""

    code = "version_of_another_federation"

    def __init__(self, *, version_id: str, federation_id: str) -> None:
        super().__init__(f"Prefix version {version_id} is not one of federation {federation_id}.")


class AlreadyPublished(PreludeError):
    """A roll-back names a version that is not the published one."""

    code = "already_published"

    def __init__(self, *, version_id: str) -> None:
        super().__init__(f"Prefix version {version_id} is the published one already.")


class ScheduleInvalid(PreludeError):
    """The schedule is neither an interval nor a cron line that can be read."""

    code = "schedule_invalid"

    def __init__(self, *, problem: str) -> None:
        super().__init__(f"The schedule is not valid: {problem}.")


class WebhookUrlInvalid(PreludeError):
    """The URL is not one that messages are sent to."""

    code = "webhook_url_invalid"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"The webhook's URL cannot be used: {problem}.")


class WebhookKindUnknown(PreludeError):
    """No event is of this kind."""

    code = "webhook_kind_unknown"

    def __init__(self, *, field: str, kind: str) -> None:
        self.field = field
        super().__init__(f"No event has the kind {kind!r}; kinds are such as round.published.")


class WebhookLimitReached(PreludeError):
    """Each event is written once for each webhook, so that their number is bounded."""

    code = "webhook_limit_reached"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"There are {limit} webhooks already, the limit; delete one first.")


class WebhookDisabled(PreludeError):
    """Nothing is sent to a disabled webhook."""

    code = "webhook_disabled"

    def __init__(self, *, webhook_id: str) -> None:
        super().__init__(f"Webhook {webhook_id} is disabled; make it active first.")


class AddressNotReachable(PreludeError):
    """A name of a webhook's URL has an address inside some network; which one, its owner is not told."""

    code = "address_not_reachable"

    def __init__(self, *, host: str) -> None:
        super().__init__(f"{host} has an address that is not public, and is not connected to.")
