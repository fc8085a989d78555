"""A federation's specification: what all its tenants agree on, checked when the federation is made and then fixed."""

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from federation.aggregation_settings import BroadcastDtype, Rule, Server, WeightedMean, WireDtype
from federation.errors import SpecificationInvalid
from federation.methods import MethodSettings, PrefixSettings
from federation.sections import Section, Text, first_fault

TEXT_MARK = "{text}"
MAX_ADAMW_LEARNING_RATE = 0.05
MAX_ROWS_OF_A_LOCAL_RUN = 200_000  # they are held in memory, tokenized
DITTO_PROXIMAL = 0.1  # where a tenant does not say how near its own prefix is to stay to the shared one


class RowKind(StrEnum):
    """What a dataset's rows are, as its validation finds and its facts say: by their columns."""

    LABEL = "label"
    COMPLETION = "completion"
    CHAT = "chat"


class LabelTask(Section):
    """Rows of `text,label`: the model names the label with a word."""

    row_kinds: ClassVar = (RowKind.LABEL,)

    kind: Literal["label"]
    template: Text = Field(max_length=4_000, description="The prompt; {text} stands for the row's text.")
    label_words: dict[Text, Text] = Field(min_length=2, max_length=100, description="Each label's word.")
    max_text_characters: int = Field(600, ge=1, le=100_000)

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        if self.template.count(TEXT_MARK) != 1:
            raise ValueError("template must hold {text} exactly once")
        if not all(self.label_words) or not all(self.label_words.values()):
            raise ValueError("label_words must hold no empty label and no empty word")
        if any(label != label.strip() for label in self.label_words):
            # A row's label is read without them. A word may begin with one: most tokenizers tell it apart.
            raise ValueError(
                "label_words must hold no label with spaces around it: no row's label would match"
            )
        if len(set(self.label_words.values())) != len(self.label_words):
            raise ValueError("label_words must differ from one another")
        return self

    def prompt(self, text: str) -> str:
        """The template with the text's first characters in it."""
        return self.template.replace(TEXT_MARK, text[: self.max_text_characters])


class CompletionTask(Section):
    """Rows of `prompt,completion` or `messages`: the model writes the completion."""

    row_kinds: ClassVar = (RowKind.COMPLETION, RowKind.CHAT)

    kind: Literal["completion"]
    max_tokens: int = Field(512, ge=8, le=32_768)


Task = Annotated[LabelTask | CompletionTask, Field(discriminator="kind")]


class Training(Section):
    """One tenant's local training in one round."""

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="Neither keeps anything between rounds.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        validate_default=True,
        description="With adamw at most 0.05, and null is what suits the method; sgd needs one.",
    )
    n_steps: int = Field(12, ge=1, le=100_000)
    batch_size: int = Field(8, ge=1, le=1_024)
    gradient_clip: float = Field(1.0, gt=0, le=1_000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    proximal: float = Field(
        0.0,
        ge=0,
        le=1_000,
        description="FedProx's mu (Li et al. 2020, arXiv 1812.06127): half of it times the squared distance from the "
        "parent version is added to the loss.",
    )
    calibrate_labels: bool = Field(
        False,
        description="Label tasks only: train on the label words' first tokens alone, with the log of the tenant's own "
        "label counts added to their logits (Menon et al. 2021, arXiv 2007.07314; FedLC, Zhang et al. 2022, arXiv "
        "2209.00189). The counts are no part of the update, and are shown to the tenant alone. It helps with few "
        "long rounds and harms many short ones.",
    )

    @field_validator("learning_rate")
    @classmethod
    def _suits_the_optimizer(cls, rate: float | None, others: ValidationInfo) -> float | None:
        if others.data.get("optimizer") == "sgd":
            if rate is None:
                raise ValueError("sgd needs one")
        elif rate is not None and rate > MAX_ADAMW_LEARNING_RATE:
            raise ValueError(f"with adamw it must be at most {MAX_ADAMW_LEARNING_RATE}")
        return rate

    @model_validator(mode="after")
    def _rows_fit_in_memory(self) -> Self:
        if self.n_examples > MAX_ROWS_OF_A_LOCAL_RUN:
            raise ValueError(f"n_steps times batch_size must be at most {MAX_ROWS_OF_A_LOCAL_RUN}")
        return self

    @property
    def n_examples(self) -> int:
        """Examples that one local run consumes."""
        return self.n_steps * self.batch_size


class Aggregation(Section):
    """How accepted updates become the next version."""

    rule: Rule = Field(
        default_factory=lambda: WeightedMean(kind="weighted_mean"),
        description="From the updates to one change; the weighted mean if nothing else is said.",
    )
    server: Server | None = Field(
        None, description="From that change to a step; none: the change is the step."
    )
    average_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Score and publish a running average of the versions, of which the past has this share; "
        "tenants train on from the latest itself.",
    )
    max_weight: int | None = Field(None, ge=1, description="No tenant counts for more examples than this.")
    max_relative_norm: float | None = Field(
        None,
        gt=0,
        le=100,
        description="The most that an update's norm may be of its parent version's; null: what suits the method.",
    )


class Upload(Section):
    """How updates travel."""

    dtype: WireDtype = Field(
        "float32",
        description="Integers have a scale for every 64 values: int8 is 3.8 times smaller, int4 7.1 times.",
    )
    error_feedback: bool = Field(
        False,
        description="A tenant adds what its last accepted upload's rounding left out to its next one (Seide et al. "
        "2014; Karimireddy et al. 2019, arXiv 1901.09847). It is kept encrypted with the tenant's key.",
    )

    @model_validator(mode="after")
    def _something_is_left_out(self) -> Self:
        if self.error_feedback and self.dtype == "float32":
            raise ValueError("error_feedback needs a smaller dtype: float32 leaves nothing out")
        return self


class Broadcast(Section):
    """How the version that tenants train from travels."""

    dtype: BroadcastDtype = Field(
        "float32",
        description="What is scored and published stays as exact as it is; tenants train from this form.",
    )


class RoundRules(Section):
    """When a round may close."""

    quorum: int = Field(2, ge=1, le=100_000, description="Accepted updates that a round needs.")
    deadline_seconds: int = Field(3_600, ge=1, le=30 * 86_400)


class Gate(Section):
    """When a candidate is published."""

    tolerance: float = Field(0.005, ge=0, le=1, description="By how much the weighted score may fall.")


class Held(Section):
    """What is measured on rows that nobody trains on."""

    n_held_out_rows: int = Field(200, ge=1, le=100_000)
    around_training: bool = Field(
        True,
        description="Each local run scores the version that it begins from (unless it is known) and its own result. "
        "Where local runs are short, that takes longer than the training.",
    )


class FederationSpecification(Section):
    """All that a federation's tenants agree on."""

    method: MethodSettings
    task: Task
    training: Training = Training()
    aggregation: Aggregation = Aggregation()
    upload: Upload = Upload()
    broadcast: Broadcast = Broadcast()
    round: RoundRules = RoundRules()
    gate: Gate = Gate()
    evaluation: Held = Held()

    @model_validator(mode="after")
    def _labels_can_be_calibrated(self) -> Self:
        if self.training.calibrate_labels and not isinstance(self.task, LabelTask):
            raise ValueError("training.calibrate_labels needs a task of kind label")
        return self

    @model_validator(mode="after")
    def _residuals_are_small(self) -> Self:
        if self.upload.error_feedback and self.method.kind == "full":
            raise ValueError(
                "upload.error_feedback does not go with full: each tenant's residual is a whole model"
            )
        return self

    def as_json(self) -> dict[str, Any]:
        """The form that is stored and sent."""
        return self.model_dump(mode="json")

    @property
    def learning_rate(self) -> float:
        """The rate that is set, or else the method's own."""
        rate = self.training.learning_rate
        return self.method.default_learning_rate if rate is None else rate

    @property
    def max_relative_norm(self) -> float:
        """The bound that is set, or else the method's own."""
        bound = self.aggregation.max_relative_norm
        return self.method.default_max_relative_norm if bound is None else bound

    def for_personal(
        self, *, n_steps: int, learning_rate: float | None, proximal: float
    ) -> "FederationSpecification":
        """The same with the training by which a tenant grows its own from a shared version.

        It trains by AdamW whatever the rounds use: the rate of an sgd there is set for the server's optimizer.
        """
        changes = {
            "optimizer": "adamw",
            "n_steps": n_steps,
            "learning_rate": learning_rate,
            "proximal": proximal,
            "calibrate_labels": False,
        }
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})

    @property
    def sha256(self) -> str:
        """The digest of the canonical form, by which a version names the rules it was made under."""
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


EXAMPLE = FederationSpecification(
    method=PrefixSettings(
        kind="prefix",
        n_virtual_tokens=16,
        # Public, and of no tenant; its first 16 tokens count.
        start_text="I loved it.\nSentiment: positive\nI hated it.\nSentiment: negative\n",
    ),
    task=LabelTask(
        kind="label",
        template="{text}\nSentiment:",
        label_words={"positive": " positive", "negative": " negative"},
    ),
    # Short rounds, of which a campaign holds many: they keep tenants with skewed labels together.
    training=Training(n_steps=5),
    evaluation=Held(around_training=False),
)
"""What the console's form begins with: the sentiment of short texts."""


def parse_specification(data: object) -> FederationSpecification:
    """Check what a caller sent. Raises SpecificationInvalid with the first faulty field."""
    try:
        specification = FederationSpecification.model_validate(data)
    except ValidationError as error:
        field, problem = first_fault(error)
        raise SpecificationInvalid(field=field or "specification", problem=problem) from None
    _check_quorum(specification)
    return specification


def _check_quorum(specification: FederationSpecification) -> None:
    rule, quorum = specification.aggregation.rule, specification.round.quorum
    if quorum < rule.n_needed:
        problem = f"it is {quorum}, and {rule.kind} with its settings needs {rule.n_needed} accepted updates"
        raise SpecificationInvalid(field="round.quorum", problem=problem)
