"""Refusals about base models, federations and tenants' places and personal prefixes in them."""

from tenants.errors import PreludeError


class SpecificationInvalid(PreludeError):
    """The specification has a faulty field."""

    code = "specification_invalid"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"The specification's field {field!r} is not valid: {problem}.")


class BaseModelNameTaken(PreludeError):
    """Base models have names of their own; a refused one leaves its name to others."""

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
    """Federations have names of their own; a refused one leaves its name to others."""

    code = "federation_name_taken"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"A federation named {name!r} exists already; choose another name.")


class FederationNotReady(PreludeError):
    """Rounds need a federation whose start prefix is there, and one that was refused takes no tenants."""

    code = "federation_not_ready"

    def __init__(self, *, federation_id: str, state: str) -> None:
        super().__init__(
            f"Federation {federation_id} is {state}; rounds need one that is ready, places one that is not refused."
        )


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
        # The member of an enumeration is shown as its value.
        super().__init__(f"A personal prefix by the rule {str(rule)!r} cannot be grown: {field} {problem}.")


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
