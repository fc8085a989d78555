"""Reading, splitting, sampling and validating datasets in the three formats."""

import csv
import io
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from federation.specification import RowKind
from training_workers import errors
from training_workers.examples import (
    ChatExample,
    CompletionExample,
    DatasetLimits,
    LabelExample,
    Message,
    as_row,
    example_from_row,
    input_hash,
    is_held_out,
    read_examples,
    select_both,
    select_held_out,
    validate,
)
from training_workers.examples.rows import MAX_LABEL_CHARACTERS, MAX_ROW_BYTES
from training_workers.examples.tables import MAX_RECORD_BYTES
from training_workers.examples.validation import LengthHistogram, SeenInputs

Rows = Sequence[dict[str, Any]]
LIMITS = DatasetLimits(min_rows=2, max_rows=1000, max_labels=5)
REVIEWS: Rows = [
    {"text": f"review number {n}, with a comma,\n a new line and a „quote“", "label": ("good", "bad")[n % 2]}
    for n in range(100)
]


def jsonl(rows: Rows) -> BinaryIO:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def comma_separated(rows: Rows) -> BinaryIO:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return io.BytesIO(text.getvalue().encode())


def parquet(rows: Rows) -> BinaryIO:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), file, row_group_size=64)
    return file


WRITERS: dict[str, Callable[[Rows], BinaryIO]] = {"jsonl": jsonl, "csv": comma_separated, "parquet": parquet}


@pytest.mark.parametrize("file_format", WRITERS)
def test_every_format_gives_the_same_examples_and_facts(file_format: str) -> None:
    file = WRITERS[file_format](REVIEWS)
    examples = list(read_examples(file, file_format))
    assert examples == [LabelExample(**row) for row in REVIEWS]
    facts = validate(file, file_format, limits=LIMITS)
    assert (facts.n_rows, facts.n_train + facts.n_held_out) == (100, 100)
    assert facts.labels == {"bad": 50, "good": 50}
    assert facts.input_characters == {"min": 56, "median": 57, "max": 57}


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_prompts_and_conversations(file_format: str) -> None:
    pairs = [{"prompt": "2+2=", "completion": "4"}]
    assert list(read_examples(WRITERS[file_format](pairs), file_format)) == [CompletionExample("2+2=", "4")]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (chat,) = read_examples(WRITERS[file_format]([{"messages": turns}]), file_format)
    assert chat == ChatExample((Message("user", "Hi"), Message("assistant", "Hello")))
    assert example_from_row(json.loads(json.dumps(as_row(chat))), kind=RowKind.CHAT, number=1) == chat


def test_other_columns_are_ignored_and_counted() -> None:
    rows = [{**row, "id": n, "vector": [0.5]} for n, row in enumerate(REVIEWS)]
    facts = validate(parquet(rows), "parquet", limits=LIMITS)
    assert (facts.columns, facts.n_ignored_columns) == (("text", "label"), 2)


def test_whole_numbers_are_labels() -> None:
    assert list(read_examples(jsonl([{"text": "a", "label": 1}]), "jsonl")) == [LabelExample("a", "1")]


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_empty_lines_count_for_no_row(file_format: str) -> None:
    content = _bytes(WRITERS[file_format](REVIEWS[:2])) + b"\n" * MAX_RECORD_BYTES
    content += content.partition(b"\n")[0] if file_format == "jsonl" else b"a,x\n"
    assert len(list(read_examples(io.BytesIO(content), file_format))) == 3


def test_a_byte_order_mark_and_empty_lines_are_passed_over() -> None:
    file = io.BytesIO(b'\xef\xbb\xbf{"text": "a", "label": "x"}\n\n  \n{"text": "b", "label": "y"}')
    assert [example.input_text for example in read_examples(file, "jsonl")] == ["a", "b"]
    file = io.BytesIO(b"\xef\xbb\xbftext,label\r\na,x\r\n\r\nb,y")
    assert [example.input_text for example in read_examples(file, "csv")] == ["a", "b"]


LONG = "x" * (MAX_ROW_BYTES + 1)
LONG_LABEL = "x" * (MAX_LABEL_CHARACTERS + 1)
LINE = "x" * (MAX_RECORD_BYTES + 1)
GOOD = '{"text": "a", "label": "x"}\n'


@pytest.mark.parametrize(
    ("file_format", "content", "refusal", "row"),
    [
        ("xml", b"<a/>", errors.DatasetFormatUnreadable, None),
        ("jsonl", b"", errors.DatasetWithoutRows, None),
        ("jsonl", b"\n\n", errors.DatasetWithoutRows, None),
        ("jsonl", b"{}", errors.ColumnsUnknown, None),
        ("jsonl", b'{"a": 1}', errors.ColumnsUnknown, None),
        ("jsonl", b'{"text": "a"}', errors.ColumnMissing, None),
        ("jsonl", b'{"text":"a","label":"b","messages":[]}', errors.ColumnsAmbiguous, None),
        ("jsonl", GOOD.encode() + b'{"text": "a"}', errors.ColumnMissing, 2),
        ("jsonl", GOOD.encode() + b"{", errors.DatasetBroken, 2),
        ("jsonl", GOOD.encode() + b"[1]", errors.DatasetBroken, 2),
        ("jsonl", b"[" * 100_000, errors.DatasetBroken, 1),
        ("jsonl", b'{"text": ' + b"1" * 5000 + b"}", errors.DatasetBroken, 1),
        ("jsonl", GOOD.encode() + b'{"text": "\xff", "label": "x"}', errors.TextNotUtf8, 2),
        ("jsonl", GOOD.encode() + b'{"text": "\\ud800", "label": "x"}', errors.TextNotUtf8, 2),
        ("jsonl", GOOD.encode() + b'{"text": " ", "label": "x"}', errors.ValueEmpty, 2),
        ("jsonl", GOOD.encode() + b'{"text": "a", "label": null}', errors.ValueEmpty, 2),
        ("jsonl", GOOD.encode() + b'{"text": 5, "label": "x"}', errors.ValueOfWrongType, 2),
        ("jsonl", GOOD.encode() + b'{"text": "a", "label": true}', errors.ValueOfWrongType, 2),
        ("jsonl", GOOD.encode() + b'{"text": "a", "label": 0.5}', errors.ValueOfWrongType, 2),
        ("jsonl", (GOOD + json.dumps({"text": LONG, "label": "x"})).encode(), errors.RowTooLong, 2),
        ("jsonl", (GOOD + json.dumps({"text": LINE, "label": "x"})).encode(), errors.RowTooLong, 2),
        ("jsonl", (GOOD + json.dumps({"text": "a", "label": LONG_LABEL})).encode(), errors.LabelTooLong, 2),
        ("jsonl", (GOOD + '{"text": "a", "label": ' + "1" * 201 + "}").encode(), errors.LabelTooLong, 2),
        ("jsonl", GOOD.encode() + rb'{"text": "a", "label": "I liked it\u0000"}', errors.LabelHoldsNul, 2),
        ("csv", b"text,label\na,x\na,I liked it\x00\n", errors.LabelHoldsNul, 2),
        ("jsonl", b'{"messages": "hi"}', errors.ValueOfWrongType, 1),
        ("jsonl", b'{"messages": [{"role": "user", "content": "hi"}]}', errors.ValueOfWrongType, 1),
        ("jsonl", b'{"messages": [{"role": "user"}, {"role": "assistant"}]}', errors.ColumnMissing, 1),
        ("csv", b"", errors.DatasetWithoutRows, None),
        ("csv", b"text,label\n", errors.DatasetWithoutRows, None),
        ("csv", b"I liked it,good\nI did not,bad\n", errors.ColumnsUnknown, None),
        ("csv", b"text,text,label\n", errors.DatasetBroken, None),
        ("csv", b"text,label\na,x\nb\n", errors.DatasetBroken, 2),
        ("csv", b'text,label\na,x\n"b,y\n', errors.DatasetBroken, 2),
        ("csv", b"text,label\na,x\n,y\n", errors.ValueEmpty, 2),
        ("csv", b"text,label\na,x\n\xff,y\n", errors.TextNotUtf8, 2),
        ("csv", ("text,label\na,x\n" + LINE).encode(), errors.RowTooLong, 2),
        ("csv", ('text,label\na,x\n"' + "line\n" * MAX_ROW_BYTES).encode(), errors.RowTooLong, 2),
        ("csv", b"text,label\na,x\n" + b'"line\n",' * MAX_ROW_BYTES, errors.RowTooLong, 2),
        ("csv", b'"line\n",' * MAX_ROW_BYTES, errors.RowTooLong, 0),
        ("parquet", b"PAR1 and no more", errors.DatasetBroken, None),
    ],
)
def test_refuses_with_the_row(
    file_format: str, content: bytes, refusal: type[errors.DatasetRefusal], row: int | None
) -> None:
    with pytest.raises(refusal) as caught:
        validate(io.BytesIO(content), file_format, limits=LIMITS)
    # Row 0 is the CSV header; what is said of a file as a whole has no row.
    assert caught.value.row == row
    assert "I liked it" not in str(caught.value)


def test_refuses_parquet_values() -> None:
    broken = [*REVIEWS[:3], {"text": None, "label": "x"}]
    with pytest.raises(errors.ValueEmpty) as empty:
        validate(parquet(broken), "parquet", limits=LIMITS)
    assert empty.value.row == 4
    with pytest.raises(errors.ValueOfWrongType) as binary:
        validate(parquet([{"text": b"a", "label": "x"}]), "parquet", limits=LIMITS)
    assert binary.value.row is None, "the whole column is"
    damaged = bytearray(_bytes(parquet(REVIEWS)))
    damaged[40:400] = bytes(360)
    with pytest.raises(errors.DatasetBroken):
        validate(io.BytesIO(damaged), "parquet", limits=LIMITS)


def _bytes(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def test_refuses_a_parquet_text_that_is_no_utf8() -> None:
    lying = pa.Array.from_buffers(pa.string(), 2, pa.array([b"fine", b"\xff\xfe"], pa.binary()).buffers())
    file = io.BytesIO()
    pq.write_table(pa.table({"text": lying, "label": pa.array(["x", "y"])}), file)
    with pytest.raises(errors.TextNotUtf8) as caught:
        validate(file, "parquet", limits=LIMITS)
    assert caught.value.row == 2


TEXTS, LABELS = pa.array(["a", "b"]), pa.array(["x", "y"])


def _conversations(*fields: tuple[str, pa.Array]) -> pa.Table:
    """Two of one turn each."""
    turns = pa.StructArray.from_arrays([array for _, array in fields], names=[name for name, _ in fields])
    return pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), turns)})


@pytest.mark.parametrize(
    ("table", "refusal", "words"),
    [
        (
            pa.Table.from_arrays([TEXTS, TEXTS, LABELS], names=["text", "text", "label"]),
            errors.DatasetBroken,
            "two columns",
        ),
        (
            pa.table({"text": pa.array([1, 2], pa.timestamp("us", tz="a secret zone")), "label": LABELS}),
            errors.ValueOfWrongType,
            "of type timestamp;",
        ),
        (
            pa.table({"text": TEXTS, "label": pa.array([1, 2], pa.duration("ns"))}),
            errors.ValueOfWrongType,
            "of type duration;",
        ),
        (
            pa.table({"messages": pa.array([[("a secret", "b")]] * 2, pa.map_(pa.string(), pa.string()))}),
            errors.ValueOfWrongType,
            "of type map;",
        ),
        (_conversations(("role", TEXTS), ("a secret", TEXTS)), errors.ColumnMissing, "content"),
        (
            _conversations(("role", TEXTS), ("role", TEXTS), ("content", TEXTS)),
            errors.DatasetBroken,
            "two fields",
        ),
        (
            _conversations(("role", TEXTS), ("content", pa.array([1, 2], pa.date32()))),
            errors.ValueOfWrongType,
            "of type date32;",
        ),
    ],
)
def test_refuses_parquet_columns_before_it_reads_a_row(
    table: pa.Table, refusal: type[errors.DatasetRefusal], words: str
) -> None:
    file = io.BytesIO()
    pq.write_table(table, file)
    with pytest.raises(refusal, match=words) as caught:
        validate(file, "parquet", limits=LIMITS)
    assert caught.value.row is None
    assert "secret" not in str(caught.value)


def test_refuses_a_parquet_columns_name_that_is_no_utf8() -> None:
    named = _bytes(parquet([{**row, "extra": 1} for row in REVIEWS]))
    with pytest.raises(errors.DatasetBroken, match="a column's name"):
        validate(io.BytesIO(named.replace(b"extra", b"\xff\xfe\xfd\xfc\xfb")), "parquet", limits=LIMITS)


def test_whatever_else_is_in_a_parquet_file_is_not_looked_at() -> None:
    at = pa.array([2**62, 1], pa.timestamp("us"))
    turns = _conversations(("role", pa.array(["assistant", "assistant"])), ("content", TEXTS), ("at", at))
    file = io.BytesIO()
    pq.write_table(turns.append_column("at", at), file)
    with pytest.raises(
        errors.ValueOfWrongType
    ) as caught:  # of one turn, so that no answer follows a question
        validate(file, "parquet", limits=LIMITS)
    assert caught.value.row == 1


@pytest.mark.parametrize("is_dictionary", [True, False])
def test_a_small_parquet_file_of_long_rows_takes_little_memory(is_dictionary: bool) -> None:
    rows = [{"text": "x" * 4_000_000, "label": str(n % 2)} for n in range(64)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, compression="zstd", use_dictionary=is_dictionary)
    assert len(file.getvalue()) < 100_000
    refused = _refused_within(file, n_bytes=60_000_000)
    assert refused.row == (1 if is_dictionary else None), "what a row group promises is in its head"


def test_turns_that_share_a_text_do_not_multiply_it() -> None:
    turns = [{"role": "user", "content": "x" * 4_000_000}] * 64
    file = parquet([{"messages": turns}] * 2 + [{"messages": turns[:1]}] * 8)
    assert _refused_within(file, n_bytes=60_000_000).row == 1


def _refused_within(file: BinaryIO, *, n_bytes: int) -> errors.RowTooLong:
    """The refusal, for which Arrow and Python held no more at any time."""
    usual, counting = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(counting)
    tracemalloc.start()
    try:
        with pytest.raises(errors.RowTooLong) as caught:
            validate(file, "parquet", limits=LIMITS)
        held = counting.max_memory() + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)
    assert 0 < held < n_bytes
    return caught.value


@pytest.mark.parametrize(
    ("rows", "refusal", "row"),
    [
        (REVIEWS[:1], errors.RowsTooFew, None),
        (list(REVIEWS) * 11, errors.RowsTooMany, 1001),
        ([{**row, "label": f"l{n}"} for n, row in enumerate(REVIEWS)], errors.LabelsTooMany, 6),
        ([{**row, "label": "good"} for row in REVIEWS], errors.LabelSingle, None),
    ],
)
def test_refuses_what_shows_over_the_rows(
    rows: Rows, refusal: type[errors.DatasetRefusal], row: int | None
) -> None:
    with pytest.raises(refusal) as caught:
        validate(jsonl(rows), "jsonl", limits=LIMITS)
    assert caught.value.row == row


def _rows_on_one_side(held_out: bool) -> Rows:
    chosen = [row for row in REVIEWS if is_held_out(input_hash(LabelExample(**row))) is held_out]
    return [{**row, "label": ("good", "bad")[n % 2]} for n, row in enumerate(chosen)]


def test_refuses_a_dataset_with_one_side_of_the_split_only() -> None:
    with pytest.raises(errors.NothingHeldOut):
        validate(jsonl(_rows_on_one_side(held_out=False)), "jsonl", limits=LIMITS)
    with pytest.raises(errors.NothingToTrainOn):
        validate(jsonl(_rows_on_one_side(held_out=True)), "jsonl", limits=LIMITS)


def test_the_split_takes_one_input_in_five_whatever_its_label_case_or_spaces() -> None:
    held_out = [text for text in map(str, range(5000)) if is_held_out(input_hash(LabelExample(text, "x")))]
    assert 900 < len(held_out) < 1100
    assert input_hash(LabelExample("A  Text\n", "x")) == input_hash(LabelExample("a text", "y"))
    assert input_hash(LabelExample("cafe\u0301", "x")) == input_hash(LabelExample("caf\u00e9", "x"))
    assert input_hash(LabelExample("other text", "x")) != input_hash(LabelExample("a text", "x"))


@pytest.mark.parametrize("file_format", WRITERS)
@pytest.mark.parametrize("n", [5, 200])
def test_training_rows_are_drawn_by_the_seed_and_never_held_out(file_format: str, n: int) -> None:
    file = WRITERS[file_format](REVIEWS)
    n_train = validate(file, file_format, limits=LIMITS).n_train
    choice = {"n": n, "n_train": n_train, "n_held_out": 7}
    drawn, held_out = select_both(file, file_format, **choice, seed=3)
    assert (drawn, held_out) == select_both(file, file_format, **choice, seed=3)
    assert drawn != select_both(file, file_format, **choice, seed=4)[0]
    assert held_out == select_held_out(file, file_format, n=7)
    assert select_both(file, file_format, **{**choice, "n_held_out": 0}, seed=3) == (drawn, [])
    assert not any(is_held_out(input_hash(example)) for example in drawn)
    counts = [drawn.count(example) for example in set(drawn)]
    assert max(counts) - min(counts) <= 1, "every row once before any row again"
    assert len(counts) == min(n, n_train)


def test_what_shows_the_same_as_a_held_out_row_is_not_trained_on() -> None:
    """Rows that begin alike, as forms do: a task that shows so little of them cannot tell them apart."""
    alike: Rows = [{"text": f"Dear Sir or Madam, {n}", "label": ("good", "bad")[n % 2]} for n in range(40)]
    rows = [*alike, *REVIEWS]
    n_train = validate(jsonl(rows), "jsonl", limits=LIMITS).n_train
    choice: dict[str, Any] = {"n": 60, "n_train": n_train, "seed": 3, "n_held_out": 1000}
    plain, held_out = select_both(jsonl(rows), "jsonl", **choice)
    chosen, same = select_both(jsonl(rows), "jsonl", **choice, max_characters=18)
    shown = {example.input_text[:18] for example in held_out}
    assert same == held_out
    assert any(example.input_text[:18] in shown for example in plain)
    assert not any(example.input_text[:18] in shown for example in chosen)
    assert set(chosen) <= set(plain)
    assert len(chosen) == len(plain)
    assert select_both(jsonl(rows), "jsonl", **choice, max_characters=1000) == (plain, held_out)
    with pytest.raises(errors.TrainingRowsHeldOut, match="first 18 characters"):
        select_both(
            jsonl(alike), "jsonl", n=5, n_train=len(alike) // 2, seed=0, n_held_out=1000, max_characters=18
        )


def test_a_changed_file_is_noticed() -> None:
    with pytest.raises(errors.DatasetChanged):
        select_both(jsonl(REVIEWS), "jsonl", n=5, n_train=0, seed=0, n_held_out=3)
    with pytest.raises(errors.DatasetChanged):
        select_both(jsonl(REVIEWS), "jsonl", n=500, n_train=500, seed=0, n_held_out=3)


def test_held_out_rows_do_not_depend_on_the_order_and_hold_no_duplicates() -> None:
    shuffled = list(REVIEWS) * 2
    random.Random(0).shuffle(shuffled)
    chosen = select_held_out(jsonl(REVIEWS), "jsonl", n=7)
    assert chosen == select_held_out(jsonl(shuffled), "jsonl", n=7)
    hashes = [input_hash(example) for example in chosen]
    every = sorted(hashed for row in REVIEWS if is_held_out(hashed := input_hash(LabelExample(**row))))
    assert hashes == every[:7]
    assert len(select_held_out(jsonl(shuffled), "jsonl", n=1000)) == len(every)


def test_duplicates_are_counted_exactly_up_to_the_capacity() -> None:
    facts = validate(jsonl([*REVIEWS, *REVIEWS[:7]]), "jsonl", limits=LIMITS)
    assert (facts.n_duplicates, facts.duplicates_are_exact) == (7, True)
    seen = SeenInputs(n_slots=8)
    assert [seen.add(hashed) for hashed in (0, 8, 16, 0, 8, 24, 32, 40, 48, 8, 48)] == [
        *(False, False, False, True, True),
        *(False, False, False, False, True, False),
    ]
    assert seen.is_full


def test_the_median_length_is_exact_when_short_and_close_when_long() -> None:
    short, long = LengthHistogram(), LengthHistogram()
    for length in range(1, 102):
        short.add(length)
        long.add(length * 1000)
    assert short.summary() == {"min": 1, "median": 51, "max": 101}
    assert long.summary()["median"] == pytest.approx(51_000, rel=0.002)


class GeneratedFile(io.RawIOBase):
    """A file of `n_rows` JSON lines that exist only while they are read."""

    def __init__(self, n_rows: int, padding: int) -> None:
        self._n_rows, self._padding = n_rows, padding
        self._lines: Iterator[bytes] = iter(())
        self._rest = b""

    def seek(self, offset: int, whence: int = 0) -> int:
        assert (offset, whence) == (0, 0)
        self._lines, self._rest = self._generate(), b""
        return 0

    def _generate(self) -> Iterator[bytes]:
        for n in range(self._n_rows):
            yield json.dumps({"text": f"{n} " + "x" * self._padding, "label": str(n % 2)}).encode() + b"\n"

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (line := next(self._lines, None)) is not None:
            self._rest += line
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _peak_bytes(file: Any) -> int:
    tracemalloc.start()
    try:
        validate(file, "jsonl", limits=DatasetLimits())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_validating_forty_megabytes_takes_no_more_memory_than_a_hundred_kilobytes() -> None:
    small, large = _peak_bytes(GeneratedFile(10, 10_000)), _peak_bytes(GeneratedFile(4_000, 10_000))
    assert large < small + 500_000


def test_a_line_without_an_end_is_not_read_whole() -> None:
    class Endless(io.RawIOBase):
        n_read = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def read(self, size: int = -1) -> bytes:
            self.n_read += size
            return b"x" * size

    file = Endless()
    with pytest.raises(errors.RowTooLong) as caught:
        validate(file, "jsonl", limits=LIMITS)  # type: ignore[arg-type]
    assert caught.value.row == 1
    assert file.n_read < 2 * MAX_RECORD_BYTES
