"""Settings, examples and states that nothing can be learned from or with, and learning that went wrong."""

from collections.abc import Sequence

from tenants.errors import PreludeError


class RuntimeSettingInvalid(PreludeError):
    """An environment variable of the trainer has a value that cannot be used."""

    code = "runtime_setting_invalid"

    def __init__(self, *, variable: str, value: str, allowed: str) -> None:
        super().__init__(f"{variable} is {value!r}; allowed is {allowed}.")


class SpecificationInvalid(PreludeError):
    """A field of a federation's specification that the learning code cannot use."""

    code = "specification_invalid"

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(f"The specification's {field} cannot be used: {reason}")


class TaskUnsupported(PreludeError):
    """A task that base models of this kind cannot do."""

    code = "task_unsupported"

    def __init__(self, *, task: str, kind: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"A base model of the kind {kind} cannot do a {task} task; it can do: {', '.join(supported)}."
        )


class LabelWordsClash(PreludeError):
    """Two labels' words that the base model cannot tell apart."""

    code = "label_words_clash"

    def __init__(self, *, labels: Sequence[str], part: str) -> None:
        super().__init__(
            f"The words of the labels {', '.join(labels)} have the same {part} to the base model's tokenizer; "
            "choose words that differ in it."
        )


class LabelWithoutWord(PreludeError):
    """An example's label has no word in the specification."""

    code = "label_without_word"

    def __init__(self, *, position: int, known: Sequence[str]) -> None:
        super().__init__(
            f"Example {position} has a label without a label word; words exist for {', '.join(known)}."
        )


class ExamplesOfWrongKind(PreludeError):
    """The dataset's columns do not fit the federation's task."""

    code = "examples_of_wrong_kind"

    def __init__(self, *, task: str, found: str) -> None:
        super().__init__(f"A {task} task cannot use examples of the kind {found}.")


class ContextExceeded(PreludeError):
    """An example that does not fit into the base model's context together with the prefix."""

    code = "context_exceeded"

    def __init__(self, *, position: int, n_tokens: int, limit: int) -> None:
        super().__init__(
            f"Example {position} has {n_tokens} tokens; the base model's context leaves {limit}. "
            "Lower max_text_characters or max_tokens."
        )
        self.n_tokens = n_tokens
        self.limit = limit


class ChatTemplateMissing(PreludeError):
    """`messages` need a tokenizer that knows how to write a conversation down."""

    code = "chat_template_missing"

    def __init__(self) -> None:
        super().__init__(
            "The base model's tokenizer has no chat template, so it cannot be trained on messages."
        )


class ConversationRefused(PreludeError):
    """A conversation that the chat template does not write down, such as one with a role that it does not know."""

    code = "conversation_refused"

    def __init__(self, *, position: int) -> None:
        # The template's own text may quote the conversation.
        super().__init__(
            f"Example {position} is a conversation that the chat template of the base model's tokenizer refuses; "
            "templates may want turns by user and assistant in alternation, or no system message."
        )


class NoExamples(PreludeError):
    """Training or evaluation without one example."""

    code = "no_examples"

    def __init__(self) -> None:
        super().__init__("There are no examples to train or to evaluate on; at least one is needed.")


class StateIncompatible(PreludeError):
    """Tensors that do not fit the method and the base model."""

    code = "state_incompatible"

    def __init__(self, *, tensor: str, found: str, expected: str) -> None:
        super().__init__(f"The tensor {tensor!r} is {found}; expected is {expected}.")


class StateUnreadable(PreludeError):
    """Bytes that are not a safetensors file."""

    code = "state_unreadable"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"The state is no readable safetensors file: {reason}")


class ParentMismatch(PreludeError):
    """The parent's bytes are not those that the round broadcast."""

    code = "parent_mismatch"

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(
            f"The parent version has the digest {found[:16]}… and not {expected[:16]}…, the round's."
        )


class LossNotFinite(PreludeError):
    """The loss became NaN or infinite; nothing of the run is used."""

    code = "loss_not_finite"

    def __init__(self, *, step: int, learning_rate: float) -> None:
        super().__init__(
            f"The loss is not finite at step {step}; try a learning rate below {learning_rate:g}."
        )


class ScoreNotFinite(PreludeError):
    """The loss on the held-out rows is NaN or infinite: the state is of no use."""

    code = "score_not_finite"

    def __init__(self, *, n_rows: int) -> None:
        super().__init__(
            f"The loss over the {n_rows} held-out rows is not finite; the state cannot be scored."
        )
