"""A small client of Airflow's REST API (v2), on the standard library."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib import error, request
from urllib.parse import quote, urlencode

from include.errors import BadInput, Transient


class ApiError(Transient):
    """Airflow's API answered with an error, or not at all."""

    default_code = "airflow.api"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AirflowApi:
    """One Airflow, one login.

    Args:
        base_url: such as ``http://127.0.0.1:8080``.
        user: login name; None when everybody is an administrator.
        password: its password.
        timeout_s: how long to wait for an answer.
    """

    def __init__(
        self,
        base_url: str,
        user: str | None = None,
        password: str | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout_s
        self._login = {"username": user, "password": password} if user else None
        self._token: str | None = None

    def get(self, path: str, **query: Any) -> Any:
        """GET below ``/api/v2``."""
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any) -> Any:
        """POST below ``/api/v2``."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """PATCH below ``/api/v2``."""
        return self._call("PATCH", path, body)

    def upsert(self, collection: str, name: str, body: dict[str, Any]) -> None:
        """Create a thing, or change it when it exists."""
        try:
            self.post(collection, body)
        except ApiError as problem:
            if problem.status != 409:
                raise
            self.patch(f"{collection}/{quote(name, safe='')}", body)

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Start a run.

        Args:
            dag_id: of which DAG.
            conf: its parameters.
            run_id: a name for it: a call whose answer was lost may then be made again.

        Returns:
            Its id.

        Raises:
            BadInput: a parameter is not valid.
        """
        self.patch(f"dags/{dag_id}", {"is_paused": False})
        body: dict[str, Any] = {"logical_date": None, "conf": conf}
        if run_id:
            body["dag_run_id"] = run_id
        try:
            run = self.post(f"dags/{dag_id}/dagRuns", body)
        except ApiError as problem:
            if problem.status == 409 and run_id:
                return run_id
            if problem.status == 400:
                raise BadInput(problem.message, code="run.params") from problem
            raise
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run."""
        return str(self.get(f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(found))
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """An unmapped task's XCom; None when there is none."""
        run = quote(run_id, safe="")
        path = f"dags/{dag_id}/dagRuns/{run}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.get(path, deserialize="true")["value"]
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    def reachable(self, path: str) -> Any:
        """GET any path of the server; None when it does not answer well yet."""
        try:
            return self._send("GET", f"{self.base_url}{path}", None, {})
        except ApiError:
            return None

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.base_url}/api/v2/{path}"
        for attempt in (1, 2, 3):
            try:
                return self._send(method, url, body, self._headers())
            except ApiError as problem:
                # A busy SQLite answers late; only reading may safely be repeated.
                if problem.status == 401:
                    self._token = None
                elif method != "GET" or problem.status in range(400, 500):
                    raise
                if attempt == 3:
                    raise
                time.sleep(attempt)
        raise AssertionError("unreachable")

    def _headers(self) -> dict[str, str]:
        if self._token is None:
            method = "POST" if self._login else "GET"
            answer = self._send(method, f"{self.base_url}/auth/token", self._login, {})
            self._token = str(answer["access_token"])
        return {"Authorization": f"Bearer {self._token}"}

    def _send(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        call = request.Request(
            url, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        opener = request.build_opener(request.ProxyHandler({}))
        try:
            with opener.open(call, timeout=self._timeout) as answer:
                text = answer.read()
        except error.HTTPError as problem:
            said = problem.read().decode(errors="replace")[:500]
            raise ApiError(f"{method} {url}: {problem.code} {said}", problem.code) from problem
        except OSError as problem:
            raise ApiError(f"{method} {url}: {problem}") from problem
        return json.loads(text) if text else None
