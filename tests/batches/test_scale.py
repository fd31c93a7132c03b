"""Many shards and large files: all rows are accounted for, and memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import batch_frames as bf
from tests.service.server import BatchServer
from tests.support.marks import slow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

MOST = 100_000_000
MEASURED = """
import os
import sys
from pathlib import Path

# Pieces of files are in memory for each processor; on two of them this is the same everywhere.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

import openai
import openai.resources.batches
import pandas
import batch_frames as bf

# This loads what is not to be measured.
assert all([bf.load_jobs, bf.submit, bf.wait, bf.download, bf.check_requests(sys.argv[2]).empty])


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kilobytes) * 1_024


with openai.OpenAI(base_url=sys.argv[1], api_key="test") as client:
    client.models.list()
    before = peak()
    {work}
    print(peak() - before)
"""


def grown(server: BatchServer, work: str) -> int:
    """Do some work in a process of its own, and tell how many bytes of memory it took for it."""
    script = MEASURED.replace("{work}", work)
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "b")
    [shard] = creator.save_to_file(server.service.folder / "first.jsonl")
    command = [sys.executable, "-c", script, server.url, str(shard.path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


@pytest.mark.parametrize("nbytes", [120_000_000, slow(1_000_000_000)])
def test_a_large_file_is_downloaded_in_little_memory(tmp_path: Path, nbytes: int) -> None:
    """An output file of up to 1 GB comes down whole in under 100 MB."""
    creator = bf.BatchCreator("m", None, system_prompt=None)
    creator.add_entry("a", "b")
    [shard] = creator.save_to_file(tmp_path / "large.jsonl")
    line = b'{"custom_id":"a","response":{"body":"' + b"x" * 959 + b'"}}\n'
    with BatchServer(polls=0) as server:
        jobs = bf.submit(shard, client=server.client())
        bf.wait(jobs, client=server.client(), poll=0.005)
        made = server.generate(line, nbytes // len(line))
        server.batches[0].output_file_id = made
        [document] = (tmp_path / ".batch_frames" / "jobs").glob("*.json")
        noted = {**json.loads(document.read_bytes()), "output_file_id": made}
        document.write_text(json.dumps(noted), "utf-8")
        path = str(shard.path)
        work = f"bf.download(bf.load_jobs({path!r}), client=client, progress=False)"
        assert grown(server, work) < MOST
    output = tmp_path / "large.output.jsonl"
    assert output.stat().st_size == nbytes // len(line) * len(line)
    with output.open("rb") as file:
        assert all(line == row for row in file)


@pytest.mark.slow
def test_an_upload_of_the_largest_shard_takes_little_memory(tmp_path: Path) -> None:
    """A shard of 200 MB is checked and goes up without ever being whole in memory."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 3_900}]}
    with (tmp_path / "full.jsonl").open("wb") as file:
        for number in range(48_000):
            request = {"custom_id": f"{number}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps({**request, "body": body}).encode() + b"\n")
    path, nbytes = str(tmp_path / "full.jsonl"), (tmp_path / "full.jsonl").stat().st_size
    with BatchServer() as server:
        assert grown(server, f"bf.check_requests({path!r})") < nbytes
        work = f"bf.submit({path!r}, client=client, check=False, progress=False)"
        assert grown(server, work) < MOST
        assert [file.content.nbytes for file in server.uploads] == [nbytes]


@pytest.mark.parametrize("count", [20, slow(200)])
def test_many_shards_with_failures_account_for_all_rows(tmp_path: Path, count: int) -> None:
    """Many shards, one request in ten failing, come back whole in flat memory."""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    wanted = [f"r{number}" for number in range(count * 100)]
    for custom_id in wanted:
        creator.add_entry(custom_id, "Say something. " * 20)
    limits = bf.Limits(requests=100)
    assert len(creator.save_to_file(tmp_path / "reviews.jsonl", limits=limits)) == count
    with BatchServer(fail_every=10) as server:
        shards = str(tmp_path / "reviews-*.jsonl")
        work = (
            f"jobs = bf.submit({shards!r}, client=client, progress=False); "
            "jobs = bf.wait(jobs, client=client, poll=0.01, progress=False); "
            "bf.download(jobs, client=client, progress=False)"
        )
        growth = grown(server, work)

        assert growth < MOST // 4
        assert len(server.batches) == count
    ids = {
        ending: [
            json.loads(line)["custom_id"]
            for path in tmp_path.glob(f"*.{ending}.jsonl")
            for line in path.read_text("utf-8").splitlines()
        ]
        for ending in ("output", "errors")
    }
    assert sorted(ids["output"] + ids["errors"]) == sorted(wanted)
    assert len(ids["errors"]) == len(wanted) // 10
