"""The processes of Prelude: their commands, and how many fit this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.embedded.ports import LOOPBACK
from deploy.embedded.processes import ProcessSpecification

PROJECT: Final = Path(__file__).resolve().parents[2]
MANAGE: Final = (sys.executable, str(PROJECT / "manage.py"))
CELERY: Final = (sys.executable, "-m", "celery", "-A", "deploy.celery", "worker")
# Nobody listens to a worker's gossip or heartbeat: its leases in the database tell whether it lives.
QUIET: Final = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
DEFAULT_GPU_WORKERS: Final = 2


def n_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_gpus() -> int:
    """The NVIDIA GPUs of this machine; 0 where the driver's tool is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listing = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def default_gpu_workers() -> int:
    """One worker a GPU; without any, two that share the cores, or one on a single core."""
    return n_gpus() or min(DEFAULT_GPU_WORKERS, n_cores())


def process(
    name: str, role: str, command: tuple[str, ...], environment: Mapping[str, str]
) -> ProcessSpecification:
    """A process of the application: it runs in the project's root."""
    return ProcessSpecification(
        name=name, role=role, command=command, environment=environment, working_directory=PROJECT
    )


def web(environment: Mapping[str, str], *, port: int) -> ProcessSpecification:
    """The API and the console."""
    options = ("--worker-class", "gthread", "--workers", "1", "--threads", "8", "--no-control-socket")
    command = (sys.executable, "-m", "gunicorn", "deploy.wsgi", "--bind", f"{LOOPBACK}:{port}", *options)
    return process("web", "web", command, environment)


def coordinator(environment: Mapping[str, str]) -> ProcessSpecification:
    """The worker that opens, aggregates and closes rounds."""
    queue = ("-Q", "coordinator", "--pool=threads", "--concurrency", "4", "-I", "federation.tasks")
    command = (*CELERY, "-n", "coordinator@%h", *queue, *QUIET)
    return process("coordinator", "coordinator", command, environment)


def gpu_workers(environment: Mapping[str, str], *, n_workers: int) -> list[ProcessSpecification]:
    """The training workers: each its share of the cores, and a GPU of its own as far as there are enough."""
    n_devices = n_gpus()
    threads = {"PRELUDE_TRAINING_THREADS": str(max(1, n_cores() // n_workers))}
    queue = ("-Q", "gpu", "--pool=solo", "-I", "training_workers.tasks")
    specifications = []
    for index in range(n_workers):
        name = f"gpu{index + 1}"
        device = {"CUDA_VISIBLE_DEVICES": str(index % n_devices)} if n_devices > 1 else {}
        command = (*CELERY, "-n", f"{name}@%h", *queue, *QUIET)
        specifications.append(process(name, "gpu", command, {**threads, **environment, **device}))
    return specifications


def announcer(environment: Mapping[str, str]) -> ProcessSpecification:
    """The process that tells webhooks what happened."""
    return process("announcer", "announcer", (*MANAGE, "announcer"), environment)


def ticker(environment: Mapping[str, str]) -> ProcessSpecification:
    """The process that opens scheduled rounds and sends again what was lost."""
    return process("ticker", "ticker", (*MANAGE, "ticker"), environment)
