"""Send request files to a live endpoint, and get files like those of a batch."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

import batch_frames as bf
from batch_frames.batches import local
from batch_frames.batches import local_calls as livecalls
from batch_frames.files import Records
from tests.service.server import BatchServer, drop, reply

CHAT = "POST /chat/completions"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with short pauses and without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(livecalls, "PAUSE", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def save(count: int = 6, per_shard: int = 1_000, name: str = "reviews.jsonl") -> list[bf.Shard]:
    """Write request files with the ids r0, r1, …"""
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(count):
        creator.add_entry(f"r{number}", f"Say {number}.")
    return creator.save_to_file(name, limits=bf.Limits(requests=per_shard))


def rows(path: str) -> list[dict[str, Any]]:
    """Read result lines."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def ids(*paths: Path) -> Counter[str]:
    """Count the ids in result files."""
    return Counter(row["custom_id"] for path in paths for row in rows(str(path)))


def test_results_are_those_of_a_batch(server: BatchServer) -> None:
    """The same requests give the same answers live and in a batch, and read alike."""
    shards = save(40, 15)
    paths = bf.run_local(shards, client=server.client())
    assert [path.name for path in paths] == [
        f"reviews-0000{n}.local.output.jsonl" for n in (1, 2, 3)
    ]
    live = bf.read_results(paths, requests=shards)
    for path in paths:
        path.unlink()
    jobs = bf.wait(bf.submit(shards, client=server.client()), client=server.client(), poll=0.005)
    batch = bf.read_results(bf.download(jobs, client=server.client()), requests=shards)
    told = ["custom_id", "status", "content", "input_tokens", "output_tokens", "status_code"]
    assert live[told].equals(batch[told])
    assert list(live["content"]) == [f"You said: Say {n}." for n in range(40)]


def test_the_request_is_sent_as_it_stands(server: BatchServer) -> None:
    """The body goes to the endpoint of the line, and the answer's body comes back as it was."""
    body = {"model": "m", "input": ["a", "b"], "user": "é\u2028"}
    request = {"custom_id": "e1", "method": "POST", "url": "/v1/embeddings", "body": body}
    Path("e.jsonl").write_text(json.dumps(request, ensure_ascii=False), encoding="utf-8")
    bf.run_local("e.jsonl", base_url=server.url)
    assert server.requests_log == ["POST /embeddings"]
    assert server.bodies == [body]
    [row] = rows("e.local.output.jsonl")
    assert row.keys() == {"id", "custom_id", "response", "error"}
    assert row["custom_id"] == "e1"
    assert row["error"] is None
    assert row["response"]["status_code"] == 200
    assert row["response"]["body"] == server.service.respond("/v1/embeddings", body)[1]


def test_the_first_few_before_the_many(server: BatchServer) -> None:
    """A limit counts over all files; the next run goes on behind what is answered."""
    shards = save(9, 4)
    for limit, sent in ((5, 5), (5, 5), (6, 6), (0, 6), (None, 9), (None, 9)):
        bf.run_local(shards, client=server.client(), limit=limit)
        assert len(server.bodies) == sent
    said = [body["messages"][0]["content"] for body in server.bodies]
    assert sorted(said) == [f"Say {n}." for n in range(9)]


def test_a_server_of_ones_own_needs_no_key(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an address alone something is sent as key; one in the environment is used."""
    save(1)
    assert len(bf.run_local("reviews.jsonl", base_url=server.url)) == 1
    server.settings.key = "sk-334"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-334")
    save(1, name="more.jsonl")
    assert len(bf.run_local("more.jsonl", base_url=server.url)) == 1


def test_failures_have_lines_of_their_own(server: BatchServer) -> None:
    """What the endpoint refuses stands in the error file, and is asked again by the next run."""
    server.settings.answer = lambda body: (
        (400, {"error": {"message": "No.", "code": "bad"}})
        if body["messages"][0]["content"] == "Say 2."
        else (200, {"choices": []})
    )
    paths = bf.run_local(save(4), client=server.client())
    assert [path.name for path in paths] == [
        "reviews.local.output.jsonl",
        "reviews.local.errors.jsonl",
    ]
    assert ids(paths[0]) == Counter(["r0", "r1", "r3"])
    [row] = rows("reviews.local.errors.jsonl")
    assert (row["custom_id"], row["error"]) == ("r2", None)
    assert row["response"]["status_code"] == 400
    assert row["response"]["body"]["error"]["message"] == "No."
    server.settings.answer = None
    [output] = bf.run_local("reviews.jsonl", client=server.client())
    assert ids(output) == Counter(["r0", "r1", "r2", "r3"])
    assert len(server.bodies) == 5


def test_errors_behind_the_limit_are_kept(server: BatchServer) -> None:
    """A run over the first requests leaves what is known of the others."""
    server.settings.answer = lambda body: (400, {"error": {"message": "No."}})
    bf.run_local(save(4), client=server.client())
    server.settings.answer = None
    bf.run_local("reviews.jsonl", client=server.client(), limit=2)
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0", "r1"])
    assert ids(Path("reviews.local.errors.jsonl")) == Counter(["r2", "r3"])


@pytest.mark.parametrize(
    "fault", [reply(429, Retry_After="0"), reply(503), drop], ids=["429", "503", "dropped"]
)
def test_faults_that_pass_are_sat_out(server: BatchServer, fault: Any) -> None:
    """Each request is tried again, and no row is lost."""
    # Both may meet the same request, which is tried three times.
    server.when(CHAT, "asked", fault)
    server.when(CHAT, "half", drop, after=3)
    [output] = bf.run_local(save(), client=server.client())
    assert ids(output) == Counter(f"r{n}" for n in range(6))


def test_a_request_that_breaks_the_endpoint_is_a_failure(server: BatchServer) -> None:
    """One request that never gets an answer does not keep the others from theirs."""
    save(12)

    def fall(body: dict[str, Any]) -> tuple[int, Any]:
        if body["messages"][0]["content"] == "Say 3.":
            return 500, {"error": {"message": "Again?"}}
        return 200, {"choices": []}

    server.settings.answer = fall
    paths = bf.run_local("reviews.jsonl", client=server.client())
    assert ids(paths[1]) == Counter(["r3"])
    assert ids(*paths) == Counter(f"r{n}" for n in range(12))


def test_connections_lost_now_and_then_are_failures(server: BatchServer) -> None:
    """As long as others are answered, a request without a connection has its line."""
    save(5)
    server.when(CHAT, "asked", drop, times=3, after=1)
    paths = bf.run_local("reviews.jsonl", client=server.client(), concurrency=1)
    [row] = rows(str(paths[1]))
    assert row["custom_id"] == "r1"
    assert row["response"] is None
    assert row["error"] == {"code": "connection_error", "message": "Connection error."}
    assert ids(*paths) == Counter(f"r{n}" for n in range(5))


def test_an_endpoint_that_is_not_there() -> None:
    """There is one clear error, and no file full of them."""
    with BatchServer() as gone:
        url = gone.url
    with pytest.raises(bf.JobError) as caught:
        bf.run_local(save(100), base_url=url.replace("http://", "http://user:secret@"))
    assert str(caught.value) == (
        f"{url} cannot be reached (Connection error.), 0 requests answered so far; start it, "
        "or correct base_url, and run again"
    )
    assert [path.name for path in Path().glob("[!.]*")] == ["reviews.jsonl"]


def test_an_endpoint_that_goes_away(server: BatchServer) -> None:
    """What was answered is kept, and the run ends soon."""
    server.when(CHAT, "asked", drop, times=None, after=20)
    with pytest.raises(bf.JobError, match=r"cannot be reached .*, 20 requests answered so far"):
        bf.run_local(save(500), client=server.client(), concurrency=2)
    assert sum(ids(Path("reviews.local.output.jsonl")).values()) == 20
    assert not Path("reviews.local.errors.jsonl").exists()
    assert len(server.requests_log) < 60


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_everything_is_told_at_once(server: BatchServer, status: int) -> None:
    """A wrong key or address ends the run as the SDK says it."""
    server.when(CHAT, "asked", reply(status), times=None)
    with pytest.raises(openai.APIStatusError) as caught:
        bf.run_local(save(100), client=server.client())
    assert caught.value.status_code == status
    assert len(server.requests_log) < 20


def test_a_kill_loses_nothing_that_was_answered(server: BatchServer) -> None:
    """Answers are on the disk as they come; the next run asks for the rest only."""
    save(60)
    script = (
        "import sys, batch_frames as bf; bf.run_local('reviews.jsonl', base_url=sys.argv[1], "
        "concurrency=1)"
    )
    with subprocess.Popen([sys.executable, "-c", script, server.url]) as process:
        server.when(CHAT, "asked", lambda: os.kill(process.pid, signal.SIGKILL), after=30)
    assert process.returncode == -signal.SIGKILL
    output = Path("reviews.local.output.jsonl")
    assert ids(output) == Counter(f"r{n}" for n in range(30))
    asked = len(server.bodies)
    bf.run_local("reviews.jsonl", client=server.client())
    assert ids(output) == Counter(f"r{n}" for n in range(60))
    assert len(server.bodies) - asked == 30


def test_a_torn_last_line_is_cut_off(server: BatchServer) -> None:
    """A line that a crash left half is asked for again."""
    [output] = bf.run_local(save(3), client=server.client())
    whole = output.read_bytes()
    output.write_bytes(whole[:-20])
    bf.run_local("reviews.jsonl", client=server.client())
    assert len(server.bodies) == 4
    assert ids(output) == Counter(["r0", "r1", "r2"])
    assert output.read_bytes().startswith(whole[: whole.rindex(b"\n", 0, -20)])


def test_bodies_that_no_line_could_hold(server: BatchServer) -> None:
    """Newlines in JSON go, what is not JSON becomes text, and each result stays one line."""
    from batch_frames.batches.local_calls import _one_line

    assert _one_line(b'{"a": 1.50,\n "b": 1e400}\r\n') == b'{"a": 1.50,  "b": 1e400}  '
    assert _one_line(b'{"a": 1.50, "b": "\xc3\xa9"}') == b'{"a": 1.50, "b": "\xc3\xa9"}'
    assert _one_line(b"<html>\n\xff</html>") == b'"<html>\\n\\ufffd</html>"'
    assert _one_line(b"") == b'""'


def test_a_shard_with_a_batch_is_refused(server: BatchServer) -> None:
    """Answers of a batch and live ones are not mixed, and nothing is paid both ways."""
    [job] = bf.submit(save(), client=server.client())
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run_local("reviews.jsonl", client=server.client())
    assert str(caught.value) == (
        f"6 of 6 requests of 'reviews.jsonl' may still be answered in "
        f"'reviews.jsonl' ({job.batch_id}); wait for it and download it, or cancel it"
    )


def test_two_runs_at_once_are_kept_apart(server: BatchServer) -> None:
    """Another run on the same shard is refused while the first is at it."""
    from batch_frames.batches.local_files import LiveFiles

    [shard] = save()
    with (
        LiveFiles(shard.path, Records().of(shard.path)),
        pytest.raises(bf.BatchFramesError) as caught,
    ):
        bf.run_local(shard, client=server.client())
    text = f"'reviews.jsonl' is being answered by process {os.getpid()}; wait for it to end"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "{",
            "reviews.jsonl, line 2: not JSON: Expecting property name enclosed in double quotes at "
            "character 1",
        ),
        (
            '{"custom_id":1,"url":"/v1/embeddings","body":{}}',
            "reviews.jsonl, line 2: not a request: it has no 'custom_id' that is text",
        ),
    ],
)
def test_a_line_that_is_no_request(server: BatchServer, line: str, text: str) -> None:
    """It is named; what stands before it is answered."""
    [shard] = save(1)
    with shard.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(bf.LineError) as caught:
        bf.run_local(shard, client=server.client())
    assert str(caught.value) == text
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0"])


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"concurrency": 0}, ValueError, "concurrency must be a whole number from 1, not 0"),
        ({"limit": -1}, ValueError, "limit must be a whole number from 0, not -1"),
        ({"limit": 2.5}, TypeError, "limit must be a whole number, not 2.5"),
        ({"base_url": "http://x", "client": 1}, TypeError, "pass client or base_url, not both"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """Options are checked before anything is sent."""
    save()
    with pytest.raises(kind) as caught:
        bf.run_local("reviews.jsonl", **options)
    assert str(caught.value) == text


def test_memory_does_not_grow_with_the_file(server: BatchServer) -> None:
    """Only a few requests are on the way at any time, and no more are read than that."""
    shard = save(400)[0]
    most = 0
    open_now = 0

    def count(step: int) -> None:
        nonlocal most, open_now
        open_now += step
        most = max(most, open_now)

    server.when(CHAT, "asked", lambda: count(1), times=None)
    server.when(CHAT, "answered", lambda: count(-1), times=None)
    bf.run_local(shard, client=server.client(), concurrency=3)
    assert len(server.bodies) == 400
    assert most <= 3


def test_lines_without_an_id_stay_where_they_are(server: BatchServer) -> None:
    """Blank request lines are passed over; what is odd in an error file is left there."""
    [shard] = save(2)
    with shard.path.open("a") as file:
        file.write("\n")
    mine = '{"id":"local-0","custom_id":"r1"}\n'
    Path("reviews.local.errors.jsonl").write_text(f"{mine}null\n")
    [output, errors] = bf.run_local(shard, client=server.client())
    assert ids(output) == Counter(["r0", "r1"])
    assert errors.read_text() == "null\n"


def test_an_answer_to_another_prompt_is_not_kept(server: BatchServer) -> None:
    """After a change of prompts, what was answered before is asked again, the rest is not."""
    save(6)
    bf.run_local("reviews.jsonl", base_url=server.url, limit=5)
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    for number in range(6):
        creator.add_entry(f"r{number}", f"Say {'again ' * (number % 2)}{number}.")
    creator.save_to_file("reviews.jsonl")
    bf.run_local("reviews.jsonl", base_url=server.url, limit=2)
    asked = [body["messages"][0]["content"] for body in server.bodies[5:]]
    assert asked == ["Say again 1."]
    said = {row["custom_id"]: row for row in rows("reviews.local.output.jsonl")}
    assert sorted(said) == ["r0", "r1", "r2", "r4"]
    contents = [
        row["response"]["body"]["choices"][0]["message"]["content"] for row in said.values()
    ]
    assert sorted(contents) == [f"You said: Say {text}." for text in ("0", "2", "4", "again 1")]
    assert bf.run_local("reviews.jsonl", base_url=server.url) == [
        Path("reviews.local.output.jsonl")
    ]
    results = bf.read_results("reviews.local.output.jsonl", requests="reviews.jsonl")
    assert list(results["content"]) == [
        f"You said: Say {'again ' * (number % 2)}{number}." for number in range(6)
    ]
    assert len(server.bodies) == 5 + 1 + 2


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/v1/chat/completions",
        "//host/v1",
        "/v1//host/chat",
        "/\\host/v1",
        "/v1/../../chat",
        "/v1/%2e%2e/chat",
        "/v1/chat/completions\n",
        "/v1/\x00",
        "http://[::1",
        "v1/chat",
        "",
    ],
)
def test_a_url_elsewhere_is_refused(server: BatchServer, url: str) -> None:
    """The key goes to the endpoint that was named, and to no host that a request file names."""
    save(1)
    request = json.loads(Path("reviews.jsonl").read_text("utf-8"))
    Path("reviews.jsonl").write_text(json.dumps({**request, "url": url}), encoding="utf-8")
    with pytest.raises(bf.LineError) as caught:
        bf.run_local("reviews.jsonl", base_url=server.url)
    assert str(caught.value) == (
        f"reviews.jsonl, line 1: 'url' is {url!r}, not a path of the API such as "
        "'/v1/chat/completions'"
    )
    assert server.requests_log == []


def test_an_error_with_status_200_is_no_answer(server: BatchServer) -> None:
    """What says that it failed goes to the error file, and is asked again the next time."""
    save(1)
    said = {"error": {"message": "Overloaded."}}
    server.settings.answer = lambda body: (200, said)
    assert bf.run_local("reviews.jsonl", base_url=server.url) == [
        Path("reviews.local.errors.jsonl")
    ]
    [row] = rows("reviews.local.errors.jsonl")
    assert row["response"]["status_code"] == 200
    assert row["response"]["body"] == said
    server.settings.answer = None
    assert bf.run_local("reviews.jsonl", base_url=server.url) == [
        Path("reviews.local.output.jsonl")
    ]
    assert len(server.bodies) == 2


@pytest.mark.parametrize("said", [b"<html>", b"", b"null", b"[]"])
def test_what_is_no_object_is_no_answer(said: bytes) -> None:
    """The page of a login, sent with status 200, goes to the error file."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            pass

    save(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever).start()
        try:
            found = bf.run_local("reviews.jsonl", base_url=f"http://127.0.0.1:{page.server_port}")
        finally:
            page.shutdown()
    assert found == [Path("reviews.local.errors.jsonl")]


def interrupt() -> None:
    """Do what Ctrl-C does."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def when_stopped(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something as soon as a run has taken notice of Ctrl-C."""
    stop = livecalls.Asker.stop

    def stop_and_act(asker: livecalls.Asker) -> None:
        stop(asker)
        action()

    monkeypatch.setattr(livecalls.Asker, "stop", stop_and_act)


@pytest.fixture(params=[False, True], ids=["ended", "gone on with"])
def waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the system end its waits for a signal, or go on with them, as polars wants it."""
    signal.siginterrupt(signal.SIGINT, not request.param)
    yield
    signal.siginterrupt(signal.SIGINT, True)


@pytest.mark.usefixtures("waits")
def test_ctrl_c_keeps_what_is_on_the_way(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that come just after it are written, and no other request is begun."""
    stopped = threading.Event()
    when_stopped(monkeypatch, stopped.set)
    monkeypatch.setattr(local, "PATIENCE", 600.0)
    all_there = threading.Barrier(4, interrupt)

    def hold() -> None:
        all_there.wait()
        stopped.wait()

    server.when(CHAT, "asked", hold, times=None)
    with pytest.raises(KeyboardInterrupt):
        bf.run_local(save(40), client=server.client(), concurrency=4)
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0", "r1", "r2", "r3"])
    assert len(server.requests_log) == 4


@pytest.mark.usefixtures("waits")
def test_ctrl_c_twice_does_not_wait(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second leaves at once what is on the way; what came before is there."""
    over = threading.Event()
    when_stopped(monkeypatch, interrupt)
    monkeypatch.setattr(local, "PATIENCE", 600.0)
    both_held = threading.Barrier(2, interrupt)

    def hold() -> None:
        both_held.wait()
        over.wait()

    server.when(CHAT, "asked", hold, times=None, after=6)
    try:
        with pytest.raises(KeyboardInterrupt):
            bf.run_local(save(40), client=server.client(), concurrency=2)
    finally:
        over.set()
    assert sum(ids(Path("reviews.local.output.jsonl")).values()) == 6


def test_ctrl_c_while_a_request_is_begun(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is known before it is sent: its answer is kept, even if Ctrl-C comes twice."""
    begun = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Any:
            begun.append(super().submit(*args, **options))
            if len(begun) == 3:
                raise KeyboardInterrupt
            return begun[-1]

    monkeypatch.setattr(local, "ThreadPoolExecutor", Pool)

    def come_and_interrupt() -> None:
        wait(begun)
        interrupt()

    when_stopped(monkeypatch, come_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        bf.run_local(save(40), client=server.client())
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0", "r1", "r2"])


@pytest.mark.usefixtures("waits")
def test_ctrl_c_ends_the_asking_again(server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that an endpoint put off are not sent once more, and are no failures."""
    monkeypatch.setattr(local, "PATIENCE", 600.0)
    all_there = threading.Barrier(4, interrupt)
    put_off = reply(429, Retry_After="1")

    def refuse() -> None:
        all_there.wait()
        put_off()

    server.when(CHAT, "asked", refuse, times=4)
    server.when(CHAT, "asked", put_off, times=None)
    with pytest.raises(KeyboardInterrupt):
        bf.run_local(save(40), client=server.client(), concurrency=4)
    assert len(server.requests_log) == 4
    assert [path.name for path in Path().glob("[!.]*")] == ["reviews.jsonl"]


def test_an_end_with_an_error_keeps_what_is_on_the_way(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers beside a refused key are written before the error is told."""
    stopped = threading.Event()
    when_stopped(monkeypatch, stopped.set)
    all_there = threading.Barrier(4)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        all_there.wait()
        if body["messages"][0]["content"] == "Say 2.":
            return 401, {"error": {"message": "No."}}
        stopped.wait()
        return 200, {"choices": []}

    server.settings.answer = answer
    with pytest.raises(openai.AuthenticationError):
        bf.run_local(save(40), client=server.client(), concurrency=4)
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0", "r1", "r3"])
    assert not Path("reviews.local.errors.jsonl").exists()


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_has_no_time_for_anything(server: BatchServer, status: int) -> None:
    """When one request after the other is put off to the last, the run ends and says so."""
    server.when(CHAT, "asked", reply(status), times=None, after=3)
    with pytest.raises(bf.JobError) as caught:
        bf.run_local(save(100), client=server.client(), concurrency=1)
    assert str(caught.value) == (
        f"{server.url} keeps answering {status}, 3 requests answered so far; "
        "wait, or lower concurrency, and run again"
    )
    assert ids(Path("reviews.local.output.jsonl")) == Counter(["r0", "r1", "r2"])
    assert len(server.requests_log) == 3 + 4 * 6


def test_a_trial_of_another_prompt_costs_no_answer(server: BatchServer) -> None:
    """Answers to the first prompt are put aside, stand in no result, and need not be paid again."""
    first = save(20)[0].path.read_text("utf-8")
    output, old = Path("reviews.local.output.jsonl"), Path(".reviews.local.output.jsonl.old")
    bf.run_local("reviews.jsonl", client=server.client())
    paid = Counter(output.read_bytes().splitlines())
    second = first.replace("Say", "Sing")
    for _ in range(2):
        Path("reviews.jsonl").write_text(second, encoding="utf-8")
        bf.run_local("reviews.jsonl", client=server.client(), limit=5)
        assert ids(output) == Counter(f"r{n}" for n in range(5))
        results = bf.read_results("reviews.local.o*", requests="reviews.jsonl")
        assert list(results["content"][:5]) == [f"You said: Sing {n}." for n in range(5)]
        assert list(results["status"][5:]) == ["missing"] * 15
        Path("reviews.jsonl").write_text(first, encoding="utf-8")
        bf.run_local("reviews.jsonl", client=server.client())
        assert Counter(output.read_bytes().splitlines()) == paid
        assert len(server.bodies) == 20 + 5
    assert ids(old) == Counter({f"r{n}": 1 + (n < 5) for n in range(20)})


def test_an_answer_that_is_back_replaces_the_error(server: BatchServer) -> None:
    """What failed under another prompt is no error any more under the one it was answered to."""
    first = save(2)[0].path.read_text("utf-8")
    bf.run_local("reviews.jsonl", client=server.client())
    Path("reviews.jsonl").write_text(first.replace("Say", "Sing"), encoding="utf-8")
    server.settings.answer = lambda body: (400, {"error": {"message": "No."}})
    [errors] = bf.run_local("reviews.jsonl", client=server.client())
    assert errors == Path("reviews.local.errors.jsonl")
    Path("reviews.jsonl").write_text(first, encoding="utf-8")
    [output] = bf.run_local("reviews.jsonl", client=server.client(), limit=0)
    assert ids(output) == Counter(["r0", "r1"])


def test_half_a_line_is_taken_back() -> None:
    """On a full disk, what does not fit is not left half."""
    from batch_frames.batches.local_files import LiveFiles

    [shard] = save(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LiveFiles(shard.path, Records().of(shard.path)) as files:
        files.append(b"a" * 9_999 + b"\n", is_good=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                files.append(b"b" * 9_999 + b"\n", is_good=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        files.append(b"c\n", is_good=True)
    assert files.output.read_bytes() == b"a" * 9_999 + b"\nc\n"


def test_answers_of_other_files_are_used(server: BatchServer) -> None:
    """Requests that were answered under another name or with other limits are not sent again."""
    [first] = save()
    [answers] = bf.run_local(first, client=server.client())
    expected = ids(answers)
    for shards in (save(name="again.jsonl"), save(per_shard=4, name="more.jsonl")):
        assert ids(*bf.run_local(shards, client=server.client())) == expected
    Path("renamed.jsonl").write_bytes(first.path.read_bytes())
    first.path.unlink()
    assert ids(*bf.run_local("renamed.jsonl", client=server.client())) == expected
    assert len(server.bodies) == 6


def test_answers_of_other_files_keep_lines_of_their_own(server: BatchServer) -> None:
    """A file whose last line was never ended, as by an editor, spoils no line that follows."""
    [first] = save(1)
    [answers] = bf.run_local(first, client=server.client())
    answers.write_bytes(answers.read_bytes().rstrip(b"\n"))
    [second] = save(3, name="more.jsonl")
    for _ in range(2):
        assert ids(*bf.run_local(second, client=server.client())) == Counter(["r0", "r1", "r2"])
    assert len(server.bodies) == 3


def test_requests_that_a_batch_has_answered_are_known_by_their_lines(server: BatchServer) -> None:
    """In another file they are not sent again, and under the same id another prompt is sent."""
    [shard] = save(3)
    how: dict[str, Any] = {"client": server.client()}
    bf.download(bf.wait(bf.submit(shard, **how), poll=0.01, **how), **how)
    sent = len(server.bodies)
    more = save(4, name="more.jsonl")
    assert ids(*bf.run_local(more, **how)) == Counter(["r3"])
    assert bf.read_results(requests="more.jsonl")["status"].tolist() == ["ok"] * 4
    creator = bf.BatchCreator("m", None, system_prompt=None, seed=None)
    creator.add_entry("r0", "Say something else.")
    creator.save_to_file("reviews.jsonl", overwrite=True)
    assert ids(*bf.run_local("reviews.jsonl", **how)) == Counter(["r0"])
    assert len(server.bodies) == sent + 2


def test_what_was_answered_since_a_retry_was_saved_is_not_submitted(server: BatchServer) -> None:
    """A round that waits to be sent is refused once its requests have live answers."""
    [shard] = save(2)
    how: dict[str, Any] = {"client": server.client()}
    server.settings.fail_every = 1
    bf.download(bf.wait(bf.submit(shard, **how), poll=0.01, **how), **how)
    server.settings.fail_every = None
    again = bf.retry_requests(shard)
    bf.run_local(shard, **how)
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.submit(again, **how)
    assert str(caught.value) == (
        "2 of 2 requests of 'reviews.round-2.jsonl' are answered in "
        "'reviews.local.output.jsonl'; retry_requests writes what is left, or move that file away "
        "to ask all again"
    )
    assert len(server.batches) == 1


def test_answers_of_a_batch_are_not_asked_for(server: BatchServer) -> None:
    """What a batch has answered is read, or to be downloaded again, not to be paid twice."""
    [shard] = save()
    how: dict[str, Any] = {"client": server.client()}
    [job] = bf.wait(bf.submit(shard, **how), poll=0.01, **how)
    [output] = bf.download(job, **how)
    sent = len(server.bodies)
    with pytest.warns(UserWarning, match="^nothing was sent") as warned:
        assert bf.run_local(shard, **how) == []
    assert [str(one.message) for one in warned] == [
        "nothing was sent, as batches have answered all requests; "
        "read_results(requests=...) returns the answers"
    ]
    output.unlink()
    with pytest.raises(bf.BatchFramesError) as caught:
        bf.run_local(shard, **how)
    assert str(caught.value) == (
        f"6 of 6 requests of 'reviews.jsonl' were answered in "
        f"'reviews.jsonl' ({job.batch_id}); wait for it and download it, or cancel it"
    )
    assert len(server.bodies) == sent
