"""Locks: alone where there are locks, a true word where a file system has none."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from memgen.store import files, ours


@pytest.fixture
def without_locks(monkeypatch, request):
    """The system's call for locks, answering as on a file system that has none."""

    def flock(file, how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    return os.strerror(request.param)


@pytest.mark.parametrize(
    "without_locks", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], indirect=True
)
@pytest.mark.parametrize("wait", [False, True])
def test_without_locks_a_run_goes_on_and_says_so(without_locks, tmp_path, capsys, wait):
    with files.lock_file(tmp_path / "a.lock", wait):
        said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert str(tmp_path) in said and without_locks in said and "without locks" in said
    ours.claim_runs(tmp_path / "runs" / "laptop")
    (tmp_path / "runs" / "laptop" / ".study.lock").touch()
    assert "removed" in ours.clean_runs(tmp_path / "runs")


@pytest.mark.parametrize("without_locks", [errno.EIO], indirect=True)
def test_another_fault_of_the_disk_is_not_taken_for_that(without_locks, tmp_path):
    with pytest.raises(OSError, match=without_locks):
        files.lock_file(tmp_path / "a.lock")


def test_a_lock_is_held_by_one(tmp_path, capsys):
    with files.lock_file(tmp_path / "a.lock"):
        assert files.lock_file(tmp_path / "a.lock") is None
    with files.lock_file(tmp_path / "a.lock"):
        assert capsys.readouterr().err == ""
