"""Why the embedded platform refuses to start or to go on."""

from pathlib import Path

from tenants.errors import PreludeError


class PlatformAlreadyRunning(PreludeError):
    """Another supervisor holds the lock of this directory."""

    code = "platform_already_running"

    def __init__(self, *, directory: Path, pid: str) -> None:
        super().__init__(
            f"A platform already runs in {directory} (process {pid or 'unknown'}). "
            "Stop it first, or choose another directory with --directory (of the demo: --var)."
        )


class PlatformSecretsExposed(PreludeError):
    """The file of secrets can be read by other users of the machine."""

    code = "platform_secrets_exposed"

    def __init__(self, *, path: Path, mode: int) -> None:
        super().__init__(
            f"{path} has mode {mode:04o}; only its owner may read it. Run: chmod 600 {path} "
            "(and change the secrets if somebody else may have read them)."
        )


class PlatformSecretsBroken(PreludeError):
    """The file of secrets does not hold the fields that this version needs."""

    code = "platform_secrets_broken"

    def __init__(self, *, path: Path, problem: str) -> None:
        super().__init__(
            f"{path} cannot be used: {problem}. The data beside it can be read only with the secrets that "
            "it was made with: restore the file, or remove the whole directory to start anew."
        )


class PlatformSecretsMissing(PreludeError):
    """There is a database, but not the file of secrets that it was made with."""

    code = "platform_secrets_missing"

    def __init__(self, *, path: Path, data: Path) -> None:
        super().__init__(
            f"{data} holds a database, and {path}, with the passwords and keys that it was made with, is gone. "
            f"Restore the file, or remove {data} to start anew."
        )


class ProcessNotReady(PreludeError):
    """A process did not become ready in time."""

    code = "process_not_ready"

    def __init__(self, *, name: str, waited_seconds: float, problem: str, log: str) -> None:
        super().__init__(
            f"{name} was not ready after {waited_seconds:.0f} s; it has to answer by then: {problem}. "
            f"The end of its log:\n{log or '(empty)'}"
        )


class CommandFailed(PreludeError):
    """A command that has to succeed before the platform can start did not."""

    code = "command_failed"

    def __init__(self, *, name: str, exit_status: int, log: str) -> None:
        super().__init__(
            f"{name} ended with status {exit_status}; it has to end with 0. The end of its log:\n{log}"
        )


class PortTaken(PreludeError):
    """The port that was asked for is in use."""

    code = "port_taken"

    def __init__(self, *, port: int) -> None:
        super().__init__(f"Another program listens on port {port}. Stop it, or choose another with --port.")


class DataFromAnotherRelease(PreludeError):
    """The data directory was made by another major release of PostgreSQL."""

    code = "data_from_another_release"

    def __init__(self, *, data: Path, found: str, supported: str) -> None:
        super().__init__(
            f"{data} was made by PostgreSQL {found}; the installed one is {supported} and reads only its own "
            "data. Dump it with the old release and load it with the new one, or choose another directory."
        )


class DirectoryOfAnotherUser(PreludeError):
    """The place for the server's data exists already and is not ours."""

    code = "directory_of_another_user"

    def __init__(self, *, directory: Path, owner: str) -> None:
        super().__init__(
            f"{directory} belongs to {owner}; it has to belong to root or nobody. Remove it and start again."
        )


class PlatformNeverStarted(PreludeError):
    """A command needs the environment of a platform that has been started in the directory."""

    code = "platform_never_started"

    def __init__(self, *, directory: Path) -> None:
        super().__init__(f"No platform has been started in {directory}; start it first with `make up`.")


class UnknownProcess(PreludeError):
    """No supervised process has this name or role."""

    code = "unknown_process"

    def __init__(self, *, name: str, known: list[str]) -> None:
        super().__init__(f"No process or role is called {name!r}; there are: {', '.join(known) or 'none'}.")
