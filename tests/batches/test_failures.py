"""What the service finds wrong is told with its shard, line and id, and its row as data."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import batch_frames as bf
from tests.service.server import BatchServer
from tests.support.jobs import bad_shards, ids, names, save, save_lines, wait

pytestmark = pytest.mark.usefixtures("folder")


def test_a_failed_validation_names_shard_line_id_and_row(server: BatchServer) -> None:
    """It is raised after the others have ended; every entry is told with its row in the set."""
    jobs = bf.submit(bad_shards(), client=server.client(), check=False)
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    error = caught.value
    assert [batch.status for batch in server.batches] == ["completed", "failed"]
    said = [entry["message"] for entry in server.batches[1].errors]
    assert str(error) == (
        "1 batch failed at validation: "
        f"reviews-00002.jsonl, line 2 (custom_id 'x1'): {said[0]} "
        "[missing_required_parameter]; "
        f"reviews-00002.jsonl, line 3 (custom_id 'x0'): {said[1]} [duplicate_custom_id]; "
        "correct the requests, save and submit them again"
    )
    assert (error.batch_id, error.status) == (server.batches[1].id, "failed")
    places = [(e["shard"], e["line"], e["row"], e["custom_id"], e["code"]) for e in error.errors]
    assert places == [
        ("reviews-00002.jsonl", 2, 4, "x1", "missing_required_parameter"),
        ("reviews-00002.jsonl", 3, 5, "x0", "duplicate_custom_id"),
    ]
    assert [e["message"] for e in error.errors] == said
    table = bf.status(jobs)
    assert table["errors"].isna().tolist() == [True, False]
    assert table["errors"].iloc[1] in str(error)
    assert table["errors"].iloc[1].endswith("[duplicate_custom_id]")
    with pytest.raises(bf.JobError) as again:
        bf.submit("reviews-*.jsonl")
    assert str(again.value) == str(error)
    assert names(bf.download(bf.load_jobs("."), client=server.client())) == [
        "reviews-00001.output.jsonl"
    ]


def test_a_corrected_shard_is_sent_anew(server: BatchServer) -> None:
    """After a failed validation, other content under the name is what is wanted."""
    with pytest.raises(bf.JobError):
        wait(bf.submit(bad_shards(), client=server.client(), check=False), server)
    save_lines("reviews-00002.jsonl", {"custom_id": "x0"}, {"custom_id": "x1"})
    jobs = wait(bf.submit("reviews-*.jsonl", client=server.client(), check=False), server)
    assert [job.status for job in jobs] == ["completed"] * 2
    assert len(server.batches) == 3
    assert ids(bf.download(jobs, client=server.client())) == Counter(["r0", "r1", "r2", "x0", "x1"])


def test_a_failure_that_is_not_of_a_line_is_tried_again(server: BatchServer) -> None:
    """A lost upload is no fault of the requests: the same shard is uploaded and sent anew."""
    [shard] = save(per_shard=6)
    jobs = bf.submit(shard, client=server.client(), check=False)
    server.service.files.clear()
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    text = server.batches[0].errors[0]["message"]
    assert str(caught.value) == (
        f"1 batch failed at validation: reviews.jsonl: {text} [invalid_request]; correct the "
        "requests, save and submit them again"
    )
    [job] = wait(bf.submit(shard, client=server.client(), check=False), server)
    assert job.status == "completed"
    assert [batch.status for batch in server.batches] == ["failed", "completed"]


def test_many_errors_are_named_by_the_first(server: BatchServer) -> None:
    """The message stays readable; the list has all of them."""
    body: dict[str, Any] = {"messages": []}
    save_lines("bad.jsonl", *[{"body": body}] * 9)
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit("bad.jsonl", client=server.client(), check=False), server)
    assert str(caught.value).count("bad.jsonl, line") == 3
    assert str(caught.value).endswith(
        "; … and 6 more; correct the requests, save and submit them again"
    )
    assert [e["row"] for e in caught.value.errors] == list(range(9))


def test_what_a_service_says_need_not_be_text(server: BatchServer) -> None:
    """A message with half a surrogate pair is noted and told like any other."""
    jobs = bf.submit(bad_shards(), client=server.client(), check=False)
    with pytest.raises(bf.JobError):
        wait(jobs, server)
    jobs = bf.submit(save("more.jsonl"), client=server.client())
    server.batches[2].errors = [{"code": "odd", "line": None, "message": "\ud83d?", "param": None}]
    server.batches[2].status = "failed"
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    assert "more-00001.jsonl: \ud83d? [odd]" in str(caught.value)
    assert bf.load_jobs("more.jsonl")[0].errors[0]["message"] == "\ud83d?"


def test_rows_are_counted_over_the_files_that_stand_there(server: BatchServer) -> None:
    """A shard that is submitted alone has the rows of its set, as far as they can be known."""
    _, second = bad_shards()
    for there in (True, False):
        shutil.rmtree(".batch_frames", ignore_errors=True)
        if not there:
            Path("reviews-00001.jsonl").unlink()
        with pytest.raises(bf.JobError) as caught:
            wait(bf.submit(second, client=server.client(), check=False), server)
        found = [error["row"] for error in caught.value.errors]
        assert found == ([4, 5] if there else [None, None])
        assert "line 2 (custom_id 'x1'): " in str(caught.value)


def test_ids_are_told_as_far_as_they_can_be_read(server: BatchServer) -> None:
    """A line that is not JSON has no id, and a file that has changed since has none to tell."""
    path = save_lines("reviews.jsonl", {}, {})
    path.write_text(path.read_text("utf-8") + "{\n", "utf-8")
    jobs = bf.submit(path, client=server.client(), check=False)
    with pytest.raises(bf.JobError) as caught:
        wait(jobs, server)
    assert [(e["line"], e["row"], e["custom_id"]) for e in caught.value.errors] == [(3, 2, None)]
    save_lines("reviews.jsonl", {"custom_id": "y"}, {}, {})
    with pytest.raises(bf.JobError) as again:
        bf.wait(jobs)
    assert again.value.errors == caught.value.errors


def test_a_name_that_ends_in_a_date_is_no_number_of_millions(server: BatchServer) -> None:
    """A fault in such a shard is told with its row, as it is the only one of its set."""
    shard = save_lines("reviews-20261125.jsonl", {}, {"body": {"model": "m"}})
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit(shard, client=server.client(), check=False), server)
    said = server.batches[0].errors[0]["message"]
    assert str(caught.value) == (
        "1 batch failed at validation: reviews-20261125.jsonl, line 2 (custom_id 'r1'): "
        f"{said} [missing_required_parameter]; correct the requests, save and submit them again"
    )


def test_rows_are_unknown_where_a_number_counts_no_shards(server: BatchServer) -> None:
    """The first of the millions of files before a shard that is missing ends the look for them."""
    shard = save_lines("places-9999999.jsonl", {"body": {"model": "m"}})
    with pytest.raises(bf.JobError) as caught:
        wait(bf.submit(shard, client=server.client(), check=False), server)
    assert [(e["line"], e["row"], e["custom_id"]) for e in caught.value.errors] == [(1, None, "r0")]
