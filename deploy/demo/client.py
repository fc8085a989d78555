"""The REST API as a program of a user calls it: one client per key."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from deploy.demo.errors import ApiRefused

Body = dict[str, Any]

_TIMEOUT_SECONDS: Final = 60.0


class Api:
    """The platform's API with one key. Paths begin with a slash and stand for what follows `/api/v1`.

    Every method raises ApiRefused where the answer is an error.
    """

    def __init__(self, platform_url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=f"{platform_url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_SECONDS,
            transport=httpx.HTTPTransport(retries=3),
            trust_env=False,  # the platform is on this machine: no proxy of the environment is asked
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Body:
        """Read one thing."""
        return self._json(self._client.get(path))

    def list(self, path: str, **filters: str) -> Iterator[Body]:
        """Read a list to its end, page by page."""
        page = self._json(self._client.get(path, params=filters))
        yield from page["results"]
        while page["next"]:
            page = self._json(self._client.get(page["next"]))
            yield from page["results"]

    def post(self, path: str, body: Body) -> Body:
        """Make or start something."""
        return self._json(self._client.post(path, json=body))

    def upload(self, path: str, file: Path, **fields: str) -> Body:
        """Send a file with form fields; it is streamed."""
        with file.open("rb") as content:
            return self._json(self._client.post(path, data=fields, files={"file": (file.name, content)}))

    def download(self, path: str) -> bytes:
        """Read the bytes of something that is not JSON."""
        return self._checked(self._client.get(path)).content

    def _json(self, response: httpx.Response) -> Body:
        body: Body = self._checked(response).json()
        return body

    @staticmethod
    def _checked(response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        is_problem = "json" in response.headers.get("content-type", "")
        raise ApiRefused(
            method=response.request.method,
            path=response.request.url.path,
            status=response.status_code,
            problem=response.json() if is_problem else {"detail": response.text[:200]},
        )


def find_or_create(api: Api, path: str, *, key: str, body: Body) -> Body:
    """Return the thing in a list that has the body's value of `key`, made if there is none that was not refused."""
    return find(api, path, key=key, value=body[key]) or api.post(path, body)


def find(api: Api, path: str, *, key: str, value: object) -> Body | None:
    """The thing in a list whose `key` has the value; what was refused is as good as none."""
    for found in api.list(path):
        if found[key] == value and found["state"] != "refused":
            return found
    return None
