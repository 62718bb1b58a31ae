"""Trials on a Ray cluster: one task a trial, on machines that share the driver's file system."""

# pyright: reportUnknownParameterType=false, reportMissingModuleSource=false
# (Ray's decorators lose the types of what they decorate.)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gainstage.errors import ConfigError
from gainstage.prescribe.executor import Ended, Job, Running, end_process, start_process

_STOP_S = 30.0
"""For a task to end its process once it is cancelled."""


class RayExecutor:
    """Tasks of the cluster that RAY_ADDRESS names, or of a Ray of this machine's own."""

    def __init__(self, *, workers: int | None = None) -> None:
        """Connect to the cluster, or begin one here.

        Args:
            workers: Processors of a Ray that is begun here; None for all.

        Raises:
            ConfigError: If Ray is not installed or no cluster is reached.
        """
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                "--executor ray needs Ray: pip install 'gainstage[ray]', or use --executor local"
            ) from error
        self._ray: Any = ray
        try:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--executor ray: no cluster, {error}") from error
        # No retries of Ray's: a second run needs a folder of its own.
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(run_job)
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        """Trials that run at once."""

    def start(self, job: Job) -> Running:
        """Hand a job to the cluster."""
        reference = self._task.remote(
            job.command, job.cwd, dict(job.environment), str(job.out), str(job.err)
        )
        return _Task(self._ray, reference, job)

    def close(self) -> None:
        """Leave the cluster; one that was begun here ends."""
        self._ray.shutdown()


class _Task:
    def __init__(self, ray: Any, reference: Any, job: Job) -> None:
        self._ray = ray
        self._reference = reference
        self._job = job

    def poll(self) -> Ended | None:
        """Return how the task ended; losing its process or machine is no fault of the trial's."""
        errors = self._ray.exceptions
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(self._reference))
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.OutOfMemoryError,
            errors.TaskCancelledError,
        ):
            return "lost"
        except errors.RayError as error:
            self._job.err.write_text(f"{error}\n", encoding="utf-8")
            return 1

    def stop(self) -> None:
        """Interrupt the task, which ends its process."""
        self._ray.cancel(self._reference, force=False)
        self._ray.wait([self._reference], timeout=_STOP_S)


def run_job(
    command: tuple[str, ...], cwd: str, environment: Mapping[str, str], out: str, err: str
) -> int:
    """Run a job on the machine of a task, and return its exit code.

    The environment is the driver's: Ray sets the number of threads to 1, which changes bits.
    """
    process = start_process(Job(command, cwd, environment, Path(out), Path(err)))
    try:
        return process.wait()
    except BaseException:
        end_process(process)
        raise
