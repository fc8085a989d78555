"""Moves that a state machine does not have."""

from typing import ClassVar

from tenants.errors import PreludeError


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
