"""The verbs of the contract (see ``include.contracts.remote``) for one model at one endpoint."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from include.contracts.manifest import BlobRef
from include.contracts.remote import JobRequest, JobStatus
from include.errors import RemoteUnavailable, UnderstudyError, Usage
from include.remote.config import Endpoint, Model
from include.remote.http import Answer, Http
from include.store.cache import ArtifactCache

_CANCEL_S = 2.0
_UPLOAD_ROUNDS = 3


class Api:
    """One model at one endpoint.

    Args:
        endpoint: where.
        model: its time limits.
        stop: set when the task is being ended.
    """

    def __init__(self, endpoint: Endpoint, model: Model, stop: threading.Event) -> None:
        self.endpoint = endpoint
        self.model = model
        self.asked = False
        """Whether the server was asked for a job and did not say that inputs are missing."""
        self._http = Http(endpoint.url, endpoint.token, model.connect_s, model.submit_s, stop)

    def submit(self, key: str, request: JobRequest, cache: ArtifactCache) -> JobStatus:
        """Hand a job in, with the inputs that the server lacks; the same key gives the same job.

        Args:
            key: the artifact's key.
            request: the job.
            cache: where the inputs are.

        Raises:
            RemoteUnavailable: the server does not take it now.
            Usage: ``remote.refused``: it takes no such job ever.
        """
        body = request.model_dump_json().encode()
        blobs = {file.sha256: file for each in request.inputs for file in each.files.values()}
        for _ in range(_UPLOAD_ROUNDS):
            self.asked = True
            answer = self._http.ask("POST", "/v1/jobs", body, {"Idempotency-Key": key})
            if answer.status != 409:
                return self._status(answer, key)
            self.asked = False
            problem = answer.problem()
            missing = [blobs[sha] for sha in problem.missing if sha in blobs]
            if not missing:
                raise RemoteUnavailable(f"{self.endpoint.url}: {problem.message}")
            self._upload(missing, cache)
        raise RemoteUnavailable(
            f"{self.endpoint.url} keeps asking for inputs that it was sent", code="remote.upload"
        )

    def _upload(self, blobs: Iterable[BlobRef], cache: ArtifactCache) -> None:
        for blob in blobs:
            with tempfile.TemporaryDirectory(prefix="understudy-upload-") as folder:
                self._http.upload(f"/v1/blobs/{blob.sha256}", cache.fetch(blob, Path(folder)))

    def status(self, job: JobStatus) -> JobStatus:
        """How far a job is."""
        return self._status(self._http.ask("GET", f"/v1/jobs/{job.job}"), job.key)

    def download(self, job: JobStatus, name: str, dst: Path) -> None:
        """Fetch an output of a job that is done; errors as for ``Http.download``."""
        blob = job.outputs[name]
        path = f"/v1/jobs/{job.job}/outputs/{name}"
        self._http.download(path, dst, blob.size, blob.sha256)

    def cancel(self, job: JobStatus) -> JobStatus | None:
        """End a job, quickly: also while our own task is being ended.

        Returns:
            What became of it; None when the server does not say. It ends by its time limit then.
        """
        http = Http(self.endpoint.url, self.endpoint.token, _CANCEL_S, _CANCEL_S)
        try:
            return self._status(http.ask("DELETE", f"/v1/jobs/{job.job}", tries=1), job.key)
        except UnderstudyError:
            return None

    def _status(self, answer: Answer, key: str) -> JobStatus:
        where = self.endpoint.url
        if answer.status == 404:
            raise RemoteUnavailable(f"{where} lost a job", code="remote.lost")
        if answer.status not in (200, 202):
            problem = answer.problem()
            raise Usage(
                f"{where} refuses the job ({answer.status} {problem.code}): {problem.message}",
                code="remote.refused",
            )
        try:
            found = JobStatus.model_validate_json(answer.body)
        except ValidationError as error:
            text = error.errors(include_input=False)[0]
            raise RemoteUnavailable(
                f"{where} does not keep to the contract: {text['loc']}: {text['msg']}",
                code="remote.answer",
            ) from error
        if found.key != key:
            raise RemoteUnavailable(f"{where} answered for another job", code="remote.answer")
        return found
