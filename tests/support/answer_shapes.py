"""Answers of chats and of the Responses API in every shape, with their rows."""

from tests.support.results import (
    CALL,
    CALLED,
    COUNTS,
    CUSTOM,
    CUSTOM_CALLED,
    CUT,
    DONE,
    FOUND,
    ITEM,
    ITEM_CALLED,
    OK,
    OLD_CALL,
    OLD_CALLED,
    OTHER_USAGE,
    REASONING,
    USAGE,
    chat,
    choice,
    chosen,
    message,
    refusing,
    responses,
    result,
    text,
)

CHAT_CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
BROKEN_CALL = {"name": "f", "arguments": '{"x":'}
BROKEN = {"id": None, "name": "f", "arguments": None, "text": '{"x":'}
NO_CALL = dict.fromkeys(("id", "name", "arguments", "text"))
SITE = {"url": "https://example.org", "title": "é", "start_index": 0, "end_index": 2}
SEARCH = {"type": "web_search_call", "status": "completed"}
FILTERED = choice("", "content_filter", 2)
CITED = {"type": "url_citation", **SITE}
WRITTEN = {"cached_tokens": 0, "cache_write_tokens": 9}
THOUGHTS = [{"type": "summary_text", "text": said} for said in ("First.", "Then.")]

CHATS = [
    ("length", result(chat(choice('{"a":', "length"))), {**CUT, "content": '{"a":'}),
    (
        "max_tokens",
        result(chat(choice("hi", "max_tokens"))),
        {**CUT, "finish_reason": "max_tokens"},
    ),
    (
        "model_length",
        result(chat(choice("hi", "model_length"))),
        {**CUT, "finish_reason": "model_length"},
    ),
    (
        "content_filter",
        result(chat(choice("", "content_filter"))),
        {**OK, "status": "filtered", "finish_reason": "content_filter", "content": ""},
    ),
    (
        "refusal",
        result(chat(choice(None, refusal="I cannot."))),
        {**OK, "status": "refused", "content": None, "refusal": "I cannot."},
    ),
    (
        "refusal cut",
        result(chat(choice(None, "length", refusal="I"))),
        {**CUT, "status": "refused", "content": None, "refusal": "I"},
    ),
    ("refusal empty", result(chat(choice(refusal=""))), OK),
    ("finish null", result(chat(choice("hi", None))), {**OK, "finish_reason": None}),
    ("finish other", result(chat(choice("hi", "eos"))), {**OK, "finish_reason": "eos"}),
    ("content empty", result(chat(choice(""))), {**OK, "content": ""}),
    ("content null", result(chat(choice(None))), {**OK, "content": None}),
    (
        "content parts",
        result(chat(choice([{"type": "text", "text": "a"}, {"type": "image"}, "b"]))),
        {**OK, "content": "ab"},
    ),
    ("content object", result(chat(choice({"é": [1, "x"]}))), {**OK, "content": '{"é":[1,"x"]}'}),
    ("content number", result(chat(choice(5))), {**OK, "content": "5"}),
    (
        "content signs",
        result(chat(choice('\x00\u2028\u2029\x85 "\\/\n😀\ufeff'))),
        {**OK, "content": '\x00\u2028\u2029\x85 "\\/\n😀\ufeff'},
    ),
    (
        "tool calls",
        result(chat(choice(None, "tool_calls", tool_calls=[CALL, CALL]))),
        {**OK, "content": None, "finish_reason": "tool_calls", "tool_calls": [CALLED, CALLED]},
    ),
    (
        "odd tool calls",
        result(chat(choice("hi", tool_calls=[CHAT_CUSTOM, {"function": BROKEN_CALL}, 5]))),
        {**OK, "tool_calls": [CUSTOM_CALLED, BROKEN, NO_CALL]},
    ),
    (
        "three choices",
        result(
            chat(choice(), choice(None, index=1, refusal="No."), choice("", "content_filter", 2))
        ),
        {
            **OK,
            "choices": [
                chosen(),
                chosen(None, status="refused", refusal="No."),
                chosen("", "content_filter", "filtered"),
            ],
        },
    ),
    ("service tier", result(chat(service_tier="flex")), {**OK, "service_tier": "flex"}),
    ("no service tier", result(chat(service_tier="")), OK),
    (
        "cache writes",
        result(chat(usage={**USAGE, "prompt_tokens_details": {"cache_write_tokens": 7}})),
        {**OK, "cached_tokens": None, "cache_write_tokens": 7},
    ),
    (
        "citations",
        result(chat(choice(annotations=[{"type": "url_citation", "url_citation": SITE}]))),
        {**OK, "citations": [{"type": "url_citation", **SITE}]},
    ),
    ("no citations", result(chat(choice(annotations=[]))), OK),
    ("no tool calls", result(chat(choice(tool_calls=[]))), OK),
    (
        "function call",
        result(chat(choice(None, "function_call", tool_calls=None, function_call=OLD_CALL))),
        {
            **OK,
            "content": None,
            "finish_reason": "function_call",
            "tool_calls": [OLD_CALLED],
        },
    ),
    (
        "two choices",
        result(chat(choice("x", "length", 1), choice("y"))),
        {**OK, "content": "y", "choices": [chosen("y"), chosen("x", "length", "truncated")]},
    ),
    (
        "no first choice",
        result(chat(choice("x", index=2), choice("y", index=1))),
        {**OK, "content": "x", "choices": [chosen("y"), chosen("x")]},
    ),
    (
        "a choice without text",
        result(chat(choice(), choice(None, index=1))),
        {**OK, "choices": [chosen("hi"), chosen(None)]},
    ),
    ("no index", result(chat({"message": {"content": "hi"}})), {**OK, "finish_reason": None}),
    (
        "no usage",
        result({"choices": [choice()], "model": "m"}),
        {**OK, **dict.fromkeys(COUNTS)},
    ),
    ("usage null", result(chat(usage=None)), {**OK, **dict.fromkeys(COUNTS)}),
    (
        "kimi",
        result(chat(usage={"cached_tokens": 7})),
        {**OK, **dict.fromkeys(COUNTS), "cached_tokens": 7},
    ),
    (
        "cached tokens beside the others",
        result(chat(usage={**USAGE, "prompt_tokens_details": {}, "cached_tokens": 7})),
        {**OK, "cached_tokens": 7},
    ),
    (
        "usage odd",
        result(chat(usage={"prompt_tokens": "3", "completion_tokens": 5.0})),
        {**OK, **dict.fromkeys(COUNTS), "input_tokens": 3},
    ),
    (
        "usage large",
        result(chat(usage={"prompt_tokens": 2**63 - 1, "completion_tokens": 2**63})),
        {**OK, **dict.fromkeys(COUNTS), "input_tokens": 2**63 - 1},
    ),
    (
        "usage negative",
        result(chat(usage={"prompt_tokens": -3, "completion_tokens": 0})),
        {**OK, **dict.fromkeys(COUNTS), "output_tokens": 0},
    ),
    (
        "completion",
        result(
            {
                "object": "text_completion",
                "model": "m",
                "choices": [
                    {"text": " hi", "index": 0, "logprobs": None, "finish_reason": "length"}
                ],
                "usage": USAGE,
            }
        ),
        {**CUT, "content": " hi"},
    ),
    (
        "completions",
        result(
            chat(
                {"text": "b", "index": 1, "finish_reason": "stop"},
                {"text": "a", "index": 0, "finish_reason": "stop"},
            )
        ),
        {**OK, "content": "a", "choices": [chosen("a"), chosen("b")]},
    ),
]

RESPONSES = [
    ("one message", result(responses(message(text("hi")))), DONE),
    (
        "reasoning summary",
        result(responses({**REASONING, "summary": THOUGHTS}, message(text("hi")))),
        {**DONE, "reasoning_summary": "First.\n\nThen."},
    ),
    (
        "web search",
        result(
            responses({"type": "web_search_call"}, message({**text("hi"), "annotations": [CITED]}))
        ),
        {**DONE, "citations": [CITED]},
    ),
    (
        "responses cache writes",
        result(responses(message(text("hi")), usage={"input_tokens_details": WRITTEN})),
        {**DONE, **dict.fromkeys(COUNTS), "cached_tokens": 0, "cache_write_tokens": 9},
    ),
    ("after reasoning", result(responses(REASONING, message(text("hi")))), DONE),
    (
        "several parts",
        result(responses(message(text("a"), text("b")), {"type": "new"}, message(text("c")))),
        {**DONE, "content": "abc"},
    ),
    (
        "phases",
        result(
            responses(
                message(text("Let me see. "), phase="commentary"),
                message(text("hi"), phase="final_answer"),
            )
        ),
        DONE,
    ),
    ("no message", result(responses(REASONING)), {**DONE, "content": None}),
    ("no output", result(responses()), {**DONE, "content": None}),
    (
        "calls",
        result(responses(REASONING, ITEM, CUSTOM)),
        {**DONE, "content": None, "tool_calls": [ITEM_CALLED, CUSTOM_CALLED]},
    ),
    (
        "refusal",
        result(responses(message(refusing("I "), refusing("cannot.")))),
        {**DONE, "status": "refused", "content": None, "refusal": "I cannot."},
    ),
    (
        "cut",
        result(
            responses(
                message(text("hi")),
                status="incomplete",
                incomplete_details={"reason": "max_output_tokens"},
            )
        ),
        {**CUT, "finish_reason": "max_output_tokens"},
    ),
    (
        "cut within reasoning",
        result(
            responses(
                REASONING, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
            )
        ),
        {**CUT, "finish_reason": "max_output_tokens", "content": None},
    ),
    (
        "filtered",
        result(
            responses(
                message(text("hi")),
                status="incomplete",
                incomplete_details={"reason": "content_filter"},
            )
        ),
        {**OK, "status": "filtered", "finish_reason": "content_filter"},
    ),
    (
        "incomplete without a reason",
        result(responses(message(text("hi")), status="incomplete", incomplete_details=None)),
        {**CUT, "finish_reason": None},
    ),
    (
        "failed",
        result(responses(status="failed", error={"code": "server_error", "message": "Sorry."})),
        {
            **FOUND,
            **COUNTS,
            "status": "http_error",
            "model": "m",
            "error_code": "server_error",
            "error_message": "Sorry.",
        },
    ),
    *(
        (
            state,
            result(responses(status=state)),
            {
                **DONE,
                "content": None,
                "status": "http_error",
                "finish_reason": state,
                "error_message": f"the response is {state}",
            },
        )
        for state in ("failed", "in_progress", "queued")
    ),
    (
        "cancelled",
        result(responses(status="cancelled")),
        {**DONE, "content": None, "status": "cancelled", "finish_reason": "cancelled"},
    ),
    (
        "no object",
        result({"output": [message(text("hi"))], "model": "m", "usage": OTHER_USAGE}),
        {**OK, "finish_reason": None},
    ),
]
