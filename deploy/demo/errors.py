"""Why the demo stops early."""

from typing import Any

from tenants.errors import PreludeError


class PackageOutOfReach(PreludeError):
    """pip could not download a package."""

    code = "package_out_of_reach"

    def __init__(self, *, requirement: str, directory: str, log: str) -> None:
        super().__init__(
            f"pip could not download {requirement}. The demo needs it once: connect to a package registry, "
            f"or put the file into {directory}. The end of pip's log:\n{log}"
        )


class PackageAltered(PreludeError):
    """A package's file is not the one that the demo was made for."""

    code = "package_altered"

    def __init__(self, *, file: str, found_sha256: str, expected_sha256: str) -> None:
        super().__init__(
            f"{file} has the SHA-256 {found_sha256}; the demo uses {expected_sha256} only. "
            "Remove the file and start again."
        )


class ConversionFailed(PreludeError):
    """The base model could not be converted to safetensors."""

    code = "conversion_failed"

    def __init__(self, *, wheel: str, log: str) -> None:
        super().__init__(f"The base model in {wheel} could not be converted. The end of the log:\n{log}")


class TextsTooFew(PreludeError):
    """A tenant's texts do not give enough rows to train on and to hold out."""

    code = "texts_too_few"

    def __init__(self, *, tenant: str, n_rows: int, min_rows: int) -> None:
        super().__init__(f"The texts for {tenant!r} give {n_rows} rows; the demo needs at least {min_rows}.")


class CommandRefused(PreludeError):
    """A management command of the platform did not succeed."""

    code = "command_refused"

    def __init__(self, *, command: str, exit_status: int, log: str) -> None:
        super().__init__(f"`manage.py {command}` ended with status {exit_status}:\n{log}")


class ApiRefused(PreludeError):
    """The API answered a request with an error; `api_code` is the problem's own code."""

    code = "api_refused"

    def __init__(self, *, method: str, path: str, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.api_code = str(problem.get("code", ""))
        detail = problem.get("detail") or problem.get("title") or "no detail"
        super().__init__(f"{method} {path} was answered with {status} {self.api_code}: {detail}")


class ThingRefused(PreludeError):
    """The platform looked at something the demo registered and refused it."""

    code = "thing_refused"

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(f"The platform refused {path}: {reason}")


class WaitedTooLong(PreludeError):
    """Something did not come to an end in the time that the demo allows for it."""

    code = "waited_too_long"

    def __init__(self, *, path: str, state: str, waited_seconds: float) -> None:
        super().__init__(
            f"{path} is still {state} after {waited_seconds:.0f} s. The logs in var/platform/logs tell why."
        )


class RoundNotFinished(PreludeError):
    """A round failed or was canceled."""

    code = "round_not_finished"

    def __init__(self, *, number: int, state: str, reason: str) -> None:
        super().__init__(f"Round {number} ended {state}: {reason or 'no reason was given'}")


class DownloadDiffers(PreludeError):
    """A downloaded version does not have the digest that the API names."""

    code = "download_differs"

    def __init__(self, *, number: int, found_sha256: str, expected_sha256: str) -> None:
        super().__init__(
            f"Version {number} was downloaded with SHA-256 {found_sha256}; the API says {expected_sha256}."
        )
