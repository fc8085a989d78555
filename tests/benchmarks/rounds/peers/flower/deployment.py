"""A session on a SuperLink and a SuperNode for each tenant, all on this machine: `python -m … DIRECTORY`."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.rounds import marks

BIN = Path(sys.executable).parent
APP = Path(__file__).with_name("app")
PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """A port that nobody listens to now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def await_port(port: int) -> None:
    """Return when somebody listens."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens to port {port}")


def is_over() -> bool:
    """Whether the last round was marked."""
    path = Path(os.environ[marks.FILE])
    text = path.read_text() if path.exists() else ""
    return text.count('"event": "usage"') >= 2


def main() -> None:
    """Start the servers, hand in the app, and wait for its last round."""
    home = Path(sys.argv[1]).resolve() / "home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["FLWR_HOME"] = str(home)
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"  # it starts its own programs by their names
    port = free_port()
    words = ["--insecure", "--port", str(port), "--disable-runtime-dependency-installation"]
    children = [subprocess.Popen([BIN / "flower-superlink", *words])]
    await_port(port)
    connection = ["--insecure", "--superlink", f"127.0.0.1:{port}"]
    for _ in range(marks.number(marks.N_TENANTS)):
        words = [*connection, "--port", str(free_port())]
        children.append(subprocess.Popen([BIN / "flower-supernode", *words]))
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "local"\n\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    subprocess.run([BIN / "flwr", "run", str(APP), "local"], check=True)
    while not is_over():
        if children[0].poll() is not None:
            sys.exit("the SuperLink has ended")
        time.sleep(0.2)
    for child in children:
        child.terminate()


if __name__ == "__main__":
    main()
