"""Result lines of every shape, with the rows that they become."""

import json

import pytest

from tests.support.answer_shapes import CHATS, RESPONSES
from tests.support.results import (
    ANSWERED,
    COUNTS,
    DEEP,
    EMBEDDED,
    FAILED,
    FAULT,
    FOUND,
    GOOD,
    NO_BODY,
    NO_ID,
    NO_VECTOR,
    OK,
    OTHER_USAGE,
    REFUSED,
    USAGE,
    chat,
    choice,
    dumps,
    embeddings,
    failed,
    floats,
    malformed,
    moderated,
    packed,
    result,
)

FIVE_SHAPES = [
    ("normal", result(chat()), OK),
    (
        "error in the body",
        result({"error": FAULT}, code=400),
        REFUSED,
    ),
    (
        "expired",
        failed({"code": "batch_expired", "message": "Too late."}),
        {
            "custom_id": "a",
            "status": "expired",
            "error_code": "batch_expired",
            "error_message": "Too late.",
        },
    ),
    (
        "status 0",
        {**failed(None), "response": {"status_code": 0, "request_id": "", "body": {}}},
        {
            "custom_id": "a",
            "status": "http_error",
            "status_code": 0,
            "error_message": "HTTP status 0",
        },
    ),
    (
        "vllm nested",
        result(None, code=400, error={"error": {**FAULT, "type": "BadRequestError", "code": 400}}),
        {**FAILED, "error_code": "BadRequestError", "status_code": 400, "request_id": "r1"},
    ),
    (
        "vllm text",
        result(None, code=400, error="No such model."),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 400,
            "error_message": "No such model.",
        },
    ),
]

JUNK = [
    ("no id", {k: v for k, v in result(chat()).items() if k != "id"}, OK),
    ("no error", {k: v for k, v in result(chat()).items() if k != "error"}, OK),
    ("error {}", result(chat(), error={}), OK),
    ("error empty text", result(chat(), error=""), OK),
    ("body error null", result(chat(error=None)), OK),
    ("body error {}", result(chat(error={})), OK),
    ("body as text", result(dumps(chat())), OK),
    ("body as text with an error", result(dumps({"error": FAULT}), code=400), REFUSED),
    (
        "body as text beside an error",
        result(dumps(chat()), error="Bad model."),
        {**FOUND, **COUNTS, **FAILED, "error_code": None, "model": "m"},
    ),
    (
        "body as text, status 500",
        result(dumps(chat()), code=500),
        {
            **FOUND,
            **COUNTS,
            "status_code": 500,
            "model": "m",
            "status": "http_error",
            "error_message": "HTTP status 500",
        },
    ),
    ("body as other text", result("Bad Gateway"), NO_BODY),
    ("body as text of a list", result("[1]"), NO_BODY),
    ("body a list", result([chat()]), NO_BODY),
    ("body null", result(None), NO_BODY),
    (
        "body a page",
        result("<html>Bad Gateway</html>", code=502),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 502,
            "error_message": "HTTP status 502",
        },
    ),
    ("body {}", result({}), NO_BODY),
    (
        "status 200, no body",
        {**result(), "response": {"status_code": 200}},
        {**NO_BODY, "request_id": None},
    ),
    (
        "status 502, no body",
        result(None, code=502),
        {
            **FOUND,
            "status": "http_error",
            "status_code": 502,
            "error_message": "HTTP status 502",
        },
    ),
    ("status 200 as text", result(chat(), code="200"), OK),
    ("status 201", result(chat(), code=201), {**OK, "status_code": 201}),
    (
        "status 300",
        result(chat(), code=300),
        {
            **FOUND,
            **COUNTS,
            "model": "m",
            "status": "http_error",
            "status_code": 300,
            "error_message": "HTTP status 300",
        },
    ),
    (
        "status 200 with an error",
        result(chat(), error=FAULT),
        {**FOUND, **COUNTS, **FAILED, "model": "m"},
    ),
    (
        "request id empty",
        {**result(), "response": {"status_code": 200, "request_id": "", "body": {}}},
        {**NO_BODY, "request_id": None},
    ),
    (
        "request id in the body",
        {"custom_id": "a", "response": {"status_code": 200, "body": chat(request_id="z")}},
        {**OK, "request_id": "z"},
    ),
    ("model empty", result(chat(model="")), {**OK, "model": None}),
    ("old vllm", {"id": "v", "custom_id": "a", "response": chat()}, {**OK, "request_id": None}),
    ("id a number", result(chat(), custom_id=17), {**OK, "custom_id": "17"}),
    ("id a fraction", result(chat(), custom_id=1.5), {**OK, "custom_id": "1.5"}),
    ("id with zeros", result(chat(), custom_id="00123"), {**OK, "custom_id": "00123"}),
    ("id like a date", result(chat(), custom_id="2024-01-01"), {**OK, "custom_id": "2024-01-01"}),
    ("id like a float", result(chat(), custom_id="1e5"), {**OK, "custom_id": "1e5"}),
    ("id empty", result(chat(), custom_id=""), {**OK, "custom_id": ""}),
    *(
        (f"id {name}", result(chat(), custom_id=name), {**OK, "custom_id": name})
        for name in ("true", "null", "task-1", "false-1", "[1]", "{}", '"', "-1", "1", "NaN")
    ),
    ("id with signs", result(chat(), custom_id='é"\\\n😀'), {**OK, "custom_id": 'é"\\\n😀'}),
    (
        "azure",
        {
            "custom_id": "a",
            "error": None,
            "response": {
                "body": chat(
                    {**choice(), "content_filter_results": {"hate": {"filtered": False}}},
                    prompt_filter_results=[{"prompt_index": 0}],
                ),
                "request_id": "r1",
                "status_code": 200,
            },
        },
        OK,
    ),
    (
        "groq",
        result(chat(usage={**USAGE, "queue_time": 0.25, "prompt_time": 0.5}, x_groq={"id": "g"})),
        OK,
    ),
    (
        "zhipu",
        {
            "response": {
                "status_code": 200,
                "body": {
                    "created": 1,
                    "model": "m",
                    "choices": [choice()],
                    "request_id": "r1",
                    "usage": USAGE,
                },
            },
            "custom_id": "a",
            "id": "batch_1",
        },
        OK,
    ),
    ("ogx error", {"id": "o", "custom_id": "a", "error": FAULT}, FAILED),
    (
        "error text only",
        {"custom_id": "a", "error": "Connection refused.", "elapsed_time": 0.5},
        {"custom_id": "a", "status": "http_error", "error_message": "Connection refused."},
    ),
]

NO_RESPONSE = {"custom_id": "a", "status": "http_error", "error_message": "no response"}
ERRORS = [
    ("response null", failed(None), NO_RESPONSE),
    ("response {}", {**failed(None), "response": {}}, NO_RESPONSE),
    ("response absent", {"custom_id": "a", "error": None}, NO_RESPONSE),
    ("only an id", {"custom_id": "a"}, NO_RESPONSE),
    (
        "a body without choices in place of the response",
        {**failed(None), "response": {"choices": None, "model": "m"}},
        {**NO_RESPONSE, "error_message": "HTTP status missing"},
    ),
    (
        "no status code",
        {"custom_id": "a", "response": {"body": chat()}},
        {
            **COUNTS,
            "custom_id": "a",
            "status": "http_error",
            "error_message": "HTTP status missing",
            "model": "m",
        },
    ),
    *(
        (
            f"status {code!r}",
            result({}, code=code),
            {
                **FOUND,
                "status_code": None,
                "status": "http_error",
                "error_message": "HTTP status missing",
            },
        )
        for code in (None, "", "x200", 200.0, 200.5, True, [200], -1, "-1", 2**63)
    ),
    *(
        (
            code,
            failed({"code": code, "message": "Stopped."}),
            {
                "custom_id": "a",
                "status": status,
                "error_code": code,
                "error_message": "Stopped.",
            },
        )
        for code, status in (
            ("batch_cancelled", "cancelled"),
            ("batch_canceled", "cancelled"),
            ("batch_expired", "expired"),
            ("rate_limit_exceeded", "http_error"),
        )
    ),
    ("code null", failed({**FAULT, "code": None}), {**FAILED, "error_code": FAULT["type"]}),
    ("code empty", failed({**FAULT, "code": ""}), {**FAILED, "error_code": FAULT["type"]}),
    ("code digits", failed({**FAULT, "code": "429"}), {**FAILED, "error_code": FAULT["type"]}),
    ("code a number", failed({**FAULT, "code": 429}), {**FAILED, "error_code": FAULT["type"]}),
    ("code alone", failed({"code": 429, "message": "Bad model."}), {**FAILED, "error_code": "429"}),
    (
        "code digits alone",
        failed({"code": "429", "message": "Bad model."}),
        {**FAILED, "error_code": "429"},
    ),
    *(
        (f"code {code!r}", failed({**FAULT, "code": code}), {**FAILED, "error_code": FAULT["type"]})
        for code in (-1, 0.5, 1e3, True, [1], {"x": 1})
    ),
    ("no code", failed({"message": "Bad model."}), {**FAILED, "error_code": None}),
    *(
        (
            f"text {error}",
            failed(error),
            {**FAILED, "error_code": None, "error_message": error},
        )
        for error in ("true", "null", "[]", "{}", "429", '{"code":"x"}', "The server is busy.")
    ),
    (
        "no message",
        failed({"code": "bad", "param": "x"}),
        {**FAILED, "error_message": '{"code":"bad","param":"x"}'},
    ),
    ("nested", failed({"type": "error", "error": FAULT}), FAILED),
    (
        "nested text",
        failed({"error": "Bad model."}),
        {**FAILED, "error_code": None, "error_message": '{"error":"Bad model."}'},
    ),
    ("text", failed("Bad model."), {**FAILED, "error_code": None}),
    ("list", failed(["Bad"]), {**FAILED, "error_code": None, "error_message": '["Bad"]'}),
    (
        "both",
        result({"error": {"message": "inner"}}, code=400, error=FAULT),
        REFUSED,
    ),
    (
        "body error text",
        result({"error": "Bad model."}, code=500),
        {**FAILED, "error_code": None, "status_code": 500, "request_id": "r1"},
    ),
    (
        "body error nested",
        result({"error": {"error": FAULT}}, code=500),
        {**FAILED, "status_code": 500, "request_id": "r1"},
    ),
]

OTHERS = [
    (
        "embedding",
        result(embeddings([0.1, -2, 3e-8])),
        {**EMBEDDED, "embedding": floats(0.1, -2, 3e-8)},
    ),
    ("base64", result(embeddings(packed(0.1, -2))), {**EMBEDDED, "embedding": floats(0.1, -2)}),
    (
        "embeddings",
        result(embeddings([1, 2], [3, 4])),
        {**EMBEDDED, "embedding": [[1, 2], [3, 4]]},
    ),
    (
        "embeddings without names",
        result({"object": "list", "data": [{"embedding": [1]}, {"embedding": [2]}], "model": "m"}),
        {**ANSWERED, "embedding": [[1], [2]]},
    ),
    (
        "embedding without a number",
        result(embeddings([0.5, None])),
        {**EMBEDDED, **NO_VECTOR},
    ),
    ("embedding of texts", result(embeddings(["x"])), {**EMBEDDED, **NO_VECTOR}),
    ("embedding an object", result(embeddings({})), {**EMBEDDED, **NO_VECTOR}),
    ("embedding null", result(embeddings(None)), {**EMBEDDED, **NO_VECTOR}),
    ("embedding a number", result(embeddings(0.5)), {**EMBEDDED, **NO_VECTOR}),
    ("embedding empty", result(embeddings([])), {**EMBEDDED, "embedding": []}),
    ("embedding large", result(embeddings([1e39])), {**EMBEDDED, "embedding": [float("inf")]}),
    *(
        (f"base64 {packed}", result(embeddings(packed)), {**EMBEDDED, **NO_VECTOR})
        for packed in ("AACAP", "AACAPw=", "AACA?w==", "AACAPwAA", "AACAPwA=", "ÄACAPw==")
    ),
    (
        "embeddings of other lengths",
        result(embeddings([1], packed(3, 4))),
        {**EMBEDDED, "embedding": [[1], [3, 4]]},
    ),
    (
        "moderation",
        result(moderated(True)),
        {
            **ANSWERED,
            "flagged": True,
            "categories": {"hate": True},
            "category_scores": {"hate": 0.25},
        },
    ),
    (
        "moderations",
        result(moderated(False, True)),
        {
            **ANSWERED,
            "flagged": True,
            "categories": [{"hate": False}, {"hate": True}],
            "category_scores": [{"hate": 0.25}, {"hate": 0.25}],
        },
    ),
    (
        "not flagged",
        result(moderated(False)),
        {
            **ANSWERED,
            "flagged": False,
            "categories": {"hate": False},
            "category_scores": {"hate": 0.25},
        },
    ),
    (
        "image",
        result({"created": 1, "data": [{"b64_json": "iVBO"}], "usage": OTHER_USAGE}),
        {
            **FOUND,
            **COUNTS,
            "status": "ok",
            "body": {"created": 1, "data": [{"b64_json": "iVBO"}], "usage": OTHER_USAGE},
        },
    ),
    (
        "rerank",
        result({"results": [{"index": 0, "relevance_score": 0.5}], "model": "m"}),
        {
            **ANSWERED,
            "body": {"results": [{"index": 0, "relevance_score": 0.5}], "model": "m"},
        },
    ),
    (
        "no choices",
        result({"choices": [], "model": "m"}),
        {**ANSWERED, "body": {"choices": [], "model": "m"}},
    ),
]
TEXTS = [
    ("null", b"null", malformed("the line is null, not an object")),
    ("list", b"[]", malformed("the line is an array, not an object")),
    ("number", b"1", malformed("the line is a number, not an object")),
    ("fraction", b"1e400", malformed("the line is a number, not an object")),
    ("text", b'"x"', malformed("the line is text, not an object")),
    ("boolean", b"true", malformed("the line is a boolean, not an object")),
    ("empty object", b"{}", NO_ID),
    ("id null", b'{"custom_id":null,"error":null}', NO_ID),
    ("id boolean", b'{"custom_id":true,"error":null}', NO_ID),
    ("id list", b'{"custom_id":["a"],"error":null}', NO_ID),
    ("id object", b'{"custom_id":{"a":1},"error":null}', NO_ID),
    ("ours", b"<<<<<<< HEAD", malformed("not JSON: Expecting value at character 0")),
    ("middle", b"=======", malformed("not JSON: Expecting value at character 0")),
    ("theirs", b">>>>>>> main", malformed("not JSON: Expecting value at character 0")),
    ("comment", b"// x", malformed("not JSON: Expecting value at character 0")),
    (
        "cut",
        GOOD[:-1],
        malformed(f"not JSON: Expecting ',' delimiter at character {len(GOOD) - 1}"),
    ),
    ("two in one", GOOD * 2, malformed(f"not JSON: Extra data at character {len(GOOD)}")),
    (
        "far",
        b'{"a":"' + b"x" * 1_500 + b'"]',
        malformed("not JSON: Expecting ',' delimiter at character 1,507"),
    ),
    (
        "control",
        b'{"custom_id":"a\x01"}',
        malformed("not JSON: Invalid control character at character 15"),
    ),
    ("nul", b"\x00", malformed("not JSON: Expecting value at character 0")),
    ("latin", b'{"custom_id":"\xe9"}', malformed("not UTF-8 at byte 14")),
    ("surrogate bytes", b'{"custom_id":"\xed\xa0\x80"}', malformed("not UTF-8 at byte 14")),
    ("deep", DEEP, malformed("not JSON: nested too deep")),
    (
        "commas",
        b'{"custom_id":"a",,}',
        malformed("not JSON: Expecting property name enclosed in double quotes at character 17"),
    ),
    ("crlf", GOOD + b"\r", OK),
    ("spaces", b" \t" + GOOD + b" \r", OK),
    ("mark", b"\xef\xbb\xbf" + GOOD, OK),
    ("nan", GOOD.replace(b'"logprobs":null', b'"logprobs":NaN'), OK),
    ("infinity", GOOD.replace(b'"logprobs":null', b'"logprobs":-Infinity'), OK),
    ("large", GOOD.replace(b'"logprobs":null', b'"logprobs":1e400'), OK),
    ("many digits", GOOD.replace(b'"created":1', b'"created":' + b"1" * 5_000), OK),
    (
        "id long",
        GOOD.replace(b'"custom_id":"a"', b'"custom_id":123456789012345678901234567890'),
        {**OK, "custom_id": "123456789012345678901234567890"},
    ),
    (
        "tokens large",
        GOOD.replace(b'"prompt_tokens":3', b'"prompt_tokens":1e400'),
        {**OK, "input_tokens": None},
    ),
    (
        "escapes",
        GOOD.replace(b'"hi"', rb'"\u0068\u0000\ud83d\ude00\/"'),
        {**OK, "content": "h\0😀/"},
    ),
    ("lone high", GOOD.replace(b'"hi"', rb'"a\ud83db"'), {**OK, "content": "a\ufffdb"}),
    ("lone low", GOOD.replace(b'"hi"', rb'"\ude00"'), {**OK, "content": "\ufffd"}),
    (
        "lone id",
        GOOD.replace(b'"custom_id":"a"', rb'"custom_id":"\uD800"'),
        {**OK, "custom_id": "\ufffd"},
    ),
    ("keys escaped", GOOD.replace(b'"custom_id"', rb'"custom\u005fid"'), OK),
    (
        "body cut short",
        GOOD.replace(b'"message":', b'"massage":').replace(b'"object":"chat.completion",', b""),
        {
            **ANSWERED,
            **COUNTS,
            "body": json.loads(
                dumps(chat())
                .replace('"message":', '"massage":')
                .replace('"object":"chat.completion",', "")
            ),
        },
    ),
]

IMPROPER = [
    ("comma", GOOD[:-1] + b",}", [OK]),
    ("small nan", GOOD.replace(b'"logprobs":null', b'"logprobs":[nan,-inf]'), [OK]),
    (
        "id large",
        GOOD.replace(b'"custom_id":"a"', b'"custom_id":1e400'),
        [{**OK, "custom_id": "1e400"}, {**OK, "custom_id": "Infinity"}],
    ),
    (
        "twice id",
        GOOD.replace(b'"custom_id":"a"', b'"custom_id":"a","custom_id":"b"'),
        [OK, {**OK, "custom_id": "b"}],
    ),
    (
        "twice deep",
        GOOD.replace(b'"content":"hi"', b'"content":"hi","content":"ho"'),
        [OK, {**OK, "content": "ho"}],
    ),
    ("twice object", GOOD[:-1] + b',"response":null}', [OK, NO_RESPONSE]),
    (
        "twice and lone",
        GOOD.replace(b'"content":"hi"', rb'"content":"\ud800","content":"ho"'),
        [{**OK, "content": "\ufffd"}, {**OK, "content": "ho"}],
    ),
    ("deep", GOOD.replace(b'"logprobs":null', b'"logprobs":' + DEEP + b"]" * len(DEEP)), [OK]),
]
"""Lines that are not proper JSON, or beyond what readers hold: each reading of them is right."""

SHAPES = [*FIVE_SHAPES, *JUNK, *ERRORS, *CHATS, *RESPONSES, *OTHERS, *TEXTS]
every_shape = pytest.mark.parametrize(
    ("value", "expected"), [pytest.param(*shape[1:], id=shape[0]) for shape in SHAPES]
)
every_improper_line = pytest.mark.parametrize(
    ("line", "readings"), [pytest.param(*shape[1:], id=shape[0]) for shape in IMPROPER]
)
