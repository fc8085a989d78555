"""Refusals of the GPU side: unusable datasets and base models, learning that went wrong, trainers that died.

One class per refusal, each with a stable code. No text ever quotes a tenant's row: it names the row's number
and the column instead. Rows are counted from 1; row 0 is a CSV file's header.
"""

import signal
from collections.abc import Sequence

from tenants.errors import PreludeError


class DatasetRefusal(PreludeError):
    """A dataset that cannot be used; `row` is the number of the first bad row where one is to blame."""

    code = "dataset_refused"

    def __init__(self, text: str, *, row: int | None = None) -> None:
        super().__init__(text if row is None else f"Row {row}: {text}")
        self.row = row


class DatasetFormatUnreadable(DatasetRefusal):
    """No reader for this format."""

    code = "dataset_format_unreadable"

    def __init__(self, *, file_format: str) -> None:
        super().__init__(
            f"There is no reader for the format {file_format!r}; jsonl, csv and parquet are read."
        )


class DatasetBroken(DatasetRefusal):
    """The bytes are not what the format says."""

    code = "dataset_broken"

    def __init__(self, *, file_format: str, reason: str, row: int | None = None) -> None:
        super().__init__(f"the file cannot be read as {file_format}: {reason}", row=row)


class ColumnsUnknown(DatasetRefusal):
    """The columns are those of no kind of example."""

    code = "columns_unknown"

    def __init__(self, *, n_columns: int) -> None:
        # A CSV file without a header has a row's texts where the names should be: they are not repeated here.
        super().__init__(
            f"None of the {n_columns} columns is known; a dataset has text and label, "
            "or prompt and completion, or messages."
        )


class ColumnsAmbiguous(DatasetRefusal):
    """The columns are those of two kinds of example at once."""

    code = "columns_ambiguous"

    def __init__(self, *, kinds: Sequence[str]) -> None:
        super().__init__(f"The columns fit {' and '.join(kinds)} at once; keep the columns of one kind only.")


class ColumnMissing(DatasetRefusal):
    """A column that the kind of example needs is not there."""

    code = "column_missing"

    def __init__(self, *, column: str, row: int | None = None) -> None:
        super().__init__(f"the column {column!r} is missing; every row needs it.", row=row)


class ValueEmpty(DatasetRefusal):
    """A text that is empty or white space only, or no value at all."""

    code = "value_empty"

    def __init__(self, *, column: str, row: int) -> None:
        super().__init__(f"the column {column!r} is empty; every row needs a value there.", row=row)


class ValueOfWrongType(DatasetRefusal):
    """A value that is not of the column's type."""

    code = "value_of_wrong_type"

    def __init__(self, *, column: str, found: str, allowed: str, row: int) -> None:
        super().__init__(
            f"the column {column!r} holds a value of type {found}; allowed is {allowed}.", row=row
        )


class TextNotUtf8(DatasetRefusal):
    """A row whose bytes are not UTF-8."""

    code = "text_not_utf8"

    def __init__(self, *, row: int) -> None:
        super().__init__("the text is not UTF-8; save the file as UTF-8.", row=row)


class RowTooLong(DatasetRefusal):
    """A row above the limit; it is refused before it is read whole."""

    code = "row_too_long"

    def __init__(self, *, limit_bytes: int, row: int) -> None:
        super().__init__(f"the row is longer than {limit_bytes} bytes, the limit for one row.", row=row)


class LabelsTooMany(DatasetRefusal):
    """More labels than a label task can have: most likely the column is not a label."""

    code = "labels_too_many"

    def __init__(self, *, limit: int, row: int) -> None:
        super().__init__(f"this is label number {limit + 1}; a dataset may have {limit} labels.", row=row)


class LabelSingle(DatasetRefusal):
    """One label only: there is nothing to tell apart."""

    code = "label_single"

    def __init__(self, *, n_rows: int) -> None:
        super().__init__(f"All {n_rows} rows have the same label; at least two labels are needed.")


class DatasetWithoutRows(DatasetRefusal):
    """A readable file in which there is no row."""

    code = "dataset_without_rows"

    def __init__(self) -> None:
        super().__init__("The file can be read but has no rows.")


class RowsTooFew(DatasetRefusal):
    """Too few rows to train and to evaluate."""

    code = "rows_too_few"

    def __init__(self, *, n_rows: int, minimum: int) -> None:
        super().__init__(f"The file has {n_rows} rows; at least {minimum} are needed.")


class RowsTooMany(DatasetRefusal):
    """More rows than one dataset may have."""

    code = "rows_too_many"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The file has more than {limit} rows, the limit for one dataset.", row=limit + 1)


class NothingHeldOut(DatasetRefusal):
    """Too few different inputs: not one of them falls on the held-out side of the split."""

    code = "nothing_held_out"

    def __init__(self, *, n_rows: int) -> None:
        super().__init__(
            f"None of the {n_rows} rows falls on the held-out side (about one different input in five does); "
            "add rows with other inputs."
        )


class NothingToTrainOn(DatasetRefusal):
    """Too few different inputs: all of them fall on the held-out side of the split."""

    code = "nothing_to_train_on"

    def __init__(self, *, n_rows: int) -> None:
        super().__init__(f"All of the {n_rows} rows fall on the held-out side; add rows with other inputs.")


class DatasetChanged(DatasetRefusal):
    """The file no longer has the training rows that its validation counted."""

    code = "dataset_changed"

    def __init__(self, *, n_expected: int, n_found: int) -> None:
        super().__init__(f"The file has {n_found} training rows where its validation counted {n_expected}.")


class BaseModelRefusal(PreludeError):
    """A directory that cannot serve as a base model."""

    code = "base_model_refused"


class BaseModelNotFound(BaseModelRefusal):
    """The directory does not exist."""

    code = "base_model_not_found"

    def __init__(self, *, directory: str) -> None:
        super().__init__(
            f"There is no directory {directory!r}; a base model is a directory in Hugging Face's layout."
        )


class BaseModelFileMissing(BaseModelRefusal):
    """A file that every base model has is not there."""

    code = "base_model_file_missing"

    def __init__(self, *, directory: str, file_name: str) -> None:
        super().__init__(f"The base model {directory!r} has no {file_name}; it is needed.")


class BaseModelBroken(BaseModelRefusal):
    """A file of the base model cannot be read."""

    code = "base_model_broken"

    def __init__(self, *, directory: str, file_name: str, reason: str) -> None:
        super().__init__(f"The file {file_name} of the base model {directory!r} cannot be read: {reason}")


class WeightsPickled(BaseModelRefusal):
    """Weights as a pickle can run code when they are opened: they never are."""

    code = "weights_pickled"

    def __init__(self, *, directory: str, file_name: str) -> None:
        super().__init__(
            f"The base model {directory!r} has its weights in the pickle {file_name}; "
            "only safetensors is read."
        )


class ArchitectureUnsupported(BaseModelRefusal):
    """Not a language model whose keys and values can be prefixed."""

    code = "architecture_unsupported"

    def __init__(self, *, architecture: str, supported: Sequence[str]) -> None:
        super().__init__(
            f"The architecture {architecture!r} is not supported; supported are {', '.join(supported)}."
        )


class BaseModelDigestMismatch(BaseModelRefusal):
    """The directory holds other bytes than the ones that were registered."""

    code = "base_model_digest_mismatch"

    def __init__(self, *, directory: str, part: str, expected: str, found: str) -> None:
        super().__init__(
            f"The {part} in {directory!r} have the digest {found[:16]}… and not {expected[:16]}…, "
            "with which the base model was registered."
        )


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


class BaseModelTooLarge(PreludeError):
    """A base model that is too large for the method."""

    code = "base_model_too_large"

    def __init__(self, *, method: str, n_parameters: int, limit: int) -> None:
        super().__init__(
            f"The base model has {n_parameters} parameters; the method {method} takes up to {limit}."
        )


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


class ChatTemplateMissing(PreludeError):
    """`messages` need a tokenizer that knows how to write a conversation down."""

    code = "chat_template_missing"

    def __init__(self) -> None:
        super().__init__(
            "The base model's tokenizer has no chat template, so it cannot be trained on messages."
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


class JobCancelled(PreludeError):
    """The job was called off; nothing of it is used."""

    code = "job_cancelled"

    def __init__(self) -> None:
        super().__init__("The job was cancelled before it was done.")


class JobUnknown(PreludeError):
    """The trainer got a job that it does not know, or one without what it needs."""

    code = "job_unknown"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"The trainer cannot take the job: {reason}")


class FrameBroken(PreludeError):
    """The bytes between the worker and its trainer are no frame."""

    code = "frame_broken"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"A frame between the worker and its trainer cannot be read: {reason}")


class TrainerLost(PreludeError):
    """The trainer is gone in the middle of a job; the next job starts a new one.

    `log_tail` is what it wrote last on standard error: for operators, since a library may have quoted its input.
    """

    code = "trainer_lost"

    def __init__(self, text: str, *, log_tail: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.log_tail = list(log_tail)


class TrainerDied(TrainerLost):
    """The trainer's process ended by itself, or was ended from outside."""

    code = "trainer_died"

    def __init__(self, *, exit_code: int | None, log_tail: Sequence[str] = ()) -> None:
        if exit_code is None:
            how = "without an exit code"
        elif exit_code == -signal.SIGKILL:  # so the kernel ends a process that takes the last of the memory
            how = "by signal 9 (killed, perhaps for lack of memory)"
        elif exit_code < 0:
            how = f"by signal {-exit_code}"
        else:
            how = f"with exit code {exit_code}"
        super().__init__(f"The trainer's process ended {how} before its job was done.", log_tail=log_tail)
        self.exit_code = exit_code


class WorkerStalled(TrainerLost):
    """The trainer lived and did nothing, as one that hangs in a library does; its worker has ended it."""

    code = "worker_stalled"

    def __init__(self, *, seconds: float, log_tail: Sequence[str] = ()) -> None:
        super().__init__(
            f"The trainer made no progress for {seconds:g} seconds and was ended.", log_tail=log_tail
        )


class TrainerFailed(PreludeError):
    """The trainer could not do the job: `refusal_code` says why; unexpected is what is no refusal of ours."""

    code = "trainer_failed"

    def __init__(self, *, refusal_code: str, detail: str, is_unexpected: bool) -> None:
        super().__init__(detail)
        self.refusal_code = refusal_code
        self.detail = detail
        self.is_unexpected = is_unexpected


class BenchmarkFilesMissing(PreludeError):
    """Texts or a base model that the benchmark needs are not there."""

    code = "benchmark_files_missing"

    def __init__(self, *, path: str) -> None:
        super().__init__(
            f"The benchmark finds nothing at {path}; `python -m deploy.demo.materials` puts its texts and "
            "base models there."
        )


class SplitImpossible(PreludeError):
    """Rows that cannot be split among the benchmark's tenants as asked."""

    code = "split_impossible"

    def __init__(self, *, split: str, reason: str) -> None:
        super().__init__(f"The rows cannot be split as {split}: {reason}.")
