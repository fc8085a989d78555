"""Every refusal of the GPU side can be made, has a code of its own, and says something."""

import inspect
import typing

from tenants.errors import PreludeError
from training_workers import errors

REFUSALS = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PreludeError)
]
SAMPLES: dict[object, object] = {str: "sample", int: 3, float: 0.5, bool: True}


def _sample(annotation: object) -> object:
    if typing.get_origin(annotation) is not None and type(None) in typing.get_args(annotation):
        return None
    return ["one", "two"] if typing.get_args(annotation) == (str,) else SAMPLES[annotation]


def test_codes_are_unique_and_texts_are_sentences() -> None:
    refusals = [refusal for refusal in REFUSALS if refusal is not PreludeError]
    assert len(refusals) > 30
    assert len({refusal.code for refusal in refusals}) == len(refusals)
    for refusal in refusals:
        signature = inspect.signature(refusal.__init__)
        arguments = {
            name: _sample(parameter.annotation)
            for name, parameter in signature.parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        if refusal in (errors.DatasetRefusal, errors.BaseModelRefusal, errors.TrainerLost):
            continue
        assert len(str(refusal(**arguments))) > 5, refusal


def test_a_refused_row_is_named_first() -> None:
    assert str(errors.TextNotUtf8(row=7)).startswith("Row 7: ")
    assert errors.TextNotUtf8(row=7).row == 7


def test_a_dead_trainer_says_how() -> None:
    assert "signal 9 (killed, perhaps for lack of memory)" in str(errors.TrainerDied(exit_code=-9))
    assert "signal 11 " in str(errors.TrainerDied(exit_code=-11))
    assert "exit code 3" in str(errors.TrainerDied(exit_code=3))
    assert "without an exit code" in str(errors.TrainerDied(exit_code=None))
