"""Datasets that cannot be used."""

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
    """A value that is not of the column's type; where a whole column is of another type there is no row."""

    code = "value_of_wrong_type"

    def __init__(self, *, column: str, found: str, allowed: str, row: int | None = None) -> None:
        what = "is" if row is None else "holds a value"
        super().__init__(f"the column {column!r} {what} of type {found}; allowed is {allowed}.", row=row)


class TextNotUtf8(DatasetRefusal):
    """A row whose bytes are not UTF-8."""

    code = "text_not_utf8"

    def __init__(self, *, row: int) -> None:
        super().__init__("the text is not UTF-8; save the file as UTF-8.", row=row)


class RowTooLong(DatasetRefusal):
    """A row above the limit; it is refused before it is read whole, and has no number where it is not come to."""

    code = "row_too_long"

    def __init__(self, *, limit_bytes: int, row: int | None = None) -> None:
        which = "a row" if row is None else "the row"
        super().__init__(f"{which} is longer than {limit_bytes} bytes, the limit for one row.", row=row)


class LabelTooLong(DatasetRefusal):
    """A label that is no name of a class: most likely the column is not a label."""

    code = "label_too_long"

    def __init__(self, *, limit: int, row: int) -> None:
        super().__init__(f"the label is longer than {limit} characters, the limit for a label.", row=row)


class LabelHoldsNul(DatasetRefusal):
    """A label with the character U+0000, which PostgreSQL keeps in no text."""

    code = "label_holds_nul"

    def __init__(self, *, row: int) -> None:
        super().__init__("the label holds the character U+0000, which cannot be kept.", row=row)


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


class TrainingRowsHeldOut(DatasetRefusal):
    """A task shows the model so little of each text that rows to train on and held-out ones look the same."""

    code = "training_rows_held_out"

    def __init__(self, *, max_characters: int) -> None:
        super().__init__(
            f"Each row drawn to train on has the same first {max_characters} characters as a held-out one, and the "
            "task shows no more; leave out what all texts begin with, or raise max_text_characters."
        )


class DatasetChanged(DatasetRefusal):
    """The file no longer has the training rows that its validation counted."""

    code = "dataset_changed"

    def __init__(self, *, n_expected: int, n_found: int) -> None:
        super().__init__(f"The file has {n_found} training rows where its validation counted {n_expected}.")
