"""Refusals about rounds, campaigns, schedules and what they publish."""

from tenants.errors import PreludeError


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
