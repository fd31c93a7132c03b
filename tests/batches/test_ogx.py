"""OGX as the service: a Batch API by other people, driven from submit to DataFrame.

It has Python 3.12 and an environment of its own. `BATCH_FRAMES_OGX` names the `ogx` program of one
that is there; else the tests make one, once, in pytest's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest
from filelock import FileLock

import batch_frames as bf
from tests.service.answers import DIMENSIONS, Body, embeddings, error_body, respond
from tests.service.server import BatchServer

pytestmark = pytest.mark.slow

OGX = "ogx==1.5.0"
CHAT, EMBEDDING = "up/chat", "up/embedding"
SECONDS_TO_START = 120
NO_NETWORK = re.compile("from versions: none|NewConnectionError|NameResolutionError|ProxyError")

FRAME = pd.DataFrame(
    {
        "id": ["a-1", "b:2", "c|3", "d/4", "é5"],
        "text": ["plain", 'a "quote"\nand\ttab', "日本語 🎈", "back\\slash", "line\u2028separator"],
    }
)


def answer(body: Body) -> tuple[int, Body]:
    """Answer as the model behind OGX, which refuses whoever says so."""
    if "input" in body:
        return respond("/v1/embeddings", body)
    if "refuse me" in json.dumps(body):
        return 400, error_body("This is refused.", code="unsupported_value")
    return respond("/v1/chat/completions", body)


def find_python() -> str | None:
    """Find a Python 3.12 that runs, on the path or among pyenv's."""
    candidates = ["python3.12"]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout
        candidates += [str(p) for p in Path(root.strip()).glob("versions/3.12.*/bin/python")]
    for candidate in filter(shutil.which, candidates):
        asked = [candidate, "-c", "import sys; print(sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout == "(3, 12)\n":
            return candidate
    return None


def install(folder: Path) -> Path:
    """Make an environment with OGX, if it is not there from an earlier run."""
    program, ready = folder / "bin" / "ogx", folder / "ready"
    if ready.exists():
        return program
    python = find_python()
    if python is None:
        pytest.skip("OGX needs Python 3.12, and there is none")
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--retries", "1", OGX]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode and NO_NETWORK.search(done.stdout + done.stderr):
        pytest.skip("OGX cannot be installed without a network")
    assert done.returncode == 0, done.stderr
    ready.touch()
    return program


def free_port() -> int:
    """Find a port that nobody listens on."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def configuration(upstream: str, port: int) -> dict[str, Any]:
    """Set OGX up with files, batches, and two models of a service that speaks OpenAI's API."""
    sql = {"backend": "sql_default"}
    models: list[dict[str, Any]] = [
        {"model_id": "chat", "model_type": "llm", "metadata": {}},
        {
            "model_id": "embedding",
            "model_type": "embedding",
            "metadata": {"embedding_dimension": DIMENSIONS},
        },
    ]
    return {
        "version": 2,
        "distro_name": "tests",
        "apis": ["batches", "files", "inference"],
        "providers": {
            "inference": [
                {
                    "provider_id": "up",
                    "provider_type": "remote::openai",
                    "config": {"base_url": upstream, "api_key": "none"},
                }
            ],
            "files": [
                {
                    "provider_id": "files",
                    "provider_type": "inline::localfs",
                    "config": {
                        "storage_dir": "./files",
                        "metadata_store": {"table_name": "files", **sql},
                    },
                }
            ],
            "batches": [
                {
                    "provider_id": "batches",
                    "provider_type": "inline::reference",
                    "config": {"sqlstore": {"table_name": "batches", **sql}},
                }
            ],
        },
        "storage": {
            "backends": {
                "kv_default": {"type": "kv_sqlite", "db_path": "./kv.db"},
                "sql_default": {"type": "sql_sqlite", "db_path": "./sql.db"},
            },
            "stores": {
                "metadata": {"namespace": "registry", "backend": "kv_default"},
                **{
                    store: {"table_name": store, **sql}
                    for store in ("inference", "conversations", "prompts", "connectors")
                },
            },
        },
        "registered_resources": {
            "models": [
                {**model, "provider_id": "up", "provider_model_id": model["model_id"]}
                for model in models
            ]
        },
        "server": {"host": "127.0.0.1", "port": port},
    }


def wait_until_ready(client: openai.OpenAI, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until there is an answer."""
    end = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            client.models.list()
        except openai.APIConnectionError:
            ended = process.poll() is not None or time.monotonic() > end
            assert not ended, log.read_text("utf-8", "replace")[-4_000:]
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    """Find or install OGX."""
    named = os.environ.get("BATCH_FRAMES_OGX")
    if named:
        return Path(named)
    folder = pytestconfig.cache.mkdir("ogx") / OGX
    with FileLock(f"{folder}.lock"):
        return install(folder)


@pytest.fixture(scope="module")
def upstream() -> Iterator[BatchServer]:
    """Serve the models behind OGX."""
    with BatchServer(models=["chat", "embedding"], answer=answer) as server:
        yield server


@pytest.fixture(scope="module")
def client(
    program: Path, upstream: BatchServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    """Run OGX and speak to it."""
    folder = tmp_path_factory.mktemp("ogx")
    port, log = free_port(), folder / "log.txt"
    # Every JSON text is YAML.
    (folder / "run.yaml").write_text(json.dumps(configuration(upstream.url, port)), "utf-8")
    command = [str(program), "run", "--insecure", "run.yaml"]
    home = {**os.environ, "HOME": str(folder)}
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=folder, env=home, stdout=out, stderr=out) as process,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client,
    ):
        try:
            wait_until_ready(client, process, log)
            yield client
        finally:
            process.terminate()


Verbs = Callable[..., pd.DataFrame]


@pytest.fixture
def round_trip(client: openai.OpenAI, tmp_path: Path) -> Verbs:
    """Take a frame through all the verbs, two requests to a shard."""

    def run(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
        batch = bf.from_dataframe(frame, id_column="id", prompt_column="text", **options)
        shards = batch.save_to_file(tmp_path / "reviews.jsonl", limits=bf.Limits(requests=2))
        jobs = bf.wait(bf.submit(shards, client=client), client=client, poll=0.05)
        results = bf.read_results(bf.download(jobs, client=client))
        return bf.join_results(frame, results, id_column="id")

    return run


def test_chat(round_trip: Verbs) -> None:
    """Every prompt has its answer, under its own id and in the frame's order."""
    joined = round_trip(FRAME, model=CHAT)
    assert joined["id"].tolist() == FRAME["id"].tolist()
    assert joined["status"].tolist() == ["ok"] * len(FRAME)
    assert joined["content"].tolist() == [f"You said: {text}" for text in FRAME["text"]]


def test_embeddings(round_trip: Verbs) -> None:
    """Every text has its vector."""
    joined = round_trip(FRAME, model=EMBEDDING, endpoint="/v1/embeddings")
    expected = [embeddings({"input": text, "model": ""})["data"][0] for text in FRAME["text"]]
    assert joined["status"].tolist() == ["ok"] * len(FRAME)
    assert [list(vector) for vector in joined["embedding"]] == [
        vector["embedding"] for vector in expected
    ]


def test_an_error_file(round_trip: Verbs) -> None:
    """A request that the model refuses comes back with the reason, the others as usual."""
    frame = FRAME.assign(text=["refuse me", *FRAME["text"][1:4], "refuse me too"])
    joined = round_trip(frame, model=CHAT)
    assert joined["status"].tolist() == ["http_error", "ok", "ok", "ok", "http_error"]
    assert joined["error_code"].dropna().unique().tolist() == ["request_failed"]
    assert joined["error_message"].dropna().unique().tolist() == [
        "Error code: 400 - This is refused."
    ]


def test_a_failed_validation(client: openai.OpenAI, tmp_path: Path) -> None:
    """A batch that OGX refuses raises an error with the place of each reason."""
    batch = bf.from_dataframe(
        FRAME.assign(model=[CHAT, CHAT, CHAT, "nobody", CHAT]),
        id_column="id",
        prompt_column="text",
        model=bf.col("model"),
    )
    shards = batch.save_to_file(tmp_path / "reviews.jsonl", limits=bf.Limits(requests=2))
    with pytest.raises(bf.JobError) as caught:
        bf.wait(bf.submit(shards, client=client, check=False), client=client, poll=0.05)
    assert caught.value.status == "failed"
    assert caught.value.errors == [
        {
            "shard": "reviews-00002.jsonl",
            "line": 2,
            "row": 3,
            "custom_id": "d/4",
            "code": "model_not_found",
            "param": "body.model",
            "message": "Model 'nobody' does not exist or is not supported",
        }
    ]


def test_submitting_again_makes_no_batch(client: openai.OpenAI, tmp_path: Path) -> None:
    """What OGX has already is not sent to it again."""
    batch = bf.from_dataframe(FRAME, id_column="id", prompt_column="text", model=CHAT)
    shards = batch.save_to_file(tmp_path / "reviews.jsonl")
    before = len(list(client.batches.list()))
    [first] = bf.submit(shards, client=client)
    [second] = bf.submit(shards, client=client)
    assert first.batch_id == second.batch_id
    assert len(list(client.batches.list())) == before + 1
