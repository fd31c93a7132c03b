"""Answer a file of chat requests as the Batch API would, troubles included, without a network.

python notebooks/answer_like_the_service.py REQUESTS OUTPUT ERRORS

The answers follow the JSON schema of their request; words of the review decide what they say. The
same requests always get the same answers.
"""

import json
import random
import re
import sys
import uuid
from pathlib import Path
from typing import Any

LIKED = (
    "best|clear|comfy|crisp|easily|exactly|fine|friend|good|great|happy|honest|love|nice|perfect|"
    "pleasant|quiet|solid|surprise|wonderful|worth|begeistert|encantado|满意|十分|최고|ممتاز"
)
DISLIKED = (
    "ache|beeping|broke|complained|crack|died|fails|flicker|forget|gone|isn't|jam|leak|lost|loud|"
    "missing|popped|rattle|refund|rust|sinks|soaked|squeak|stuck|trouble|wobble|wrong|scheitert|"
    "corto|坏|曲が|젖"
)
TOPICS = {
    "noise": "beeping|loud|quiet|rattle|squeak|声音",
    "comfort": "back|comf|ears|fits|heavy|light|wrists",
    "quality": "broke|crack|leak|pieces|rust|solid|tough|zip",
    "price": "cheap|price|refund|value|가성비",
    "service": "apology|exchange|seller|support|客服",
    "setup": "app|assembl|firmware|instructions|pairing|setup|설치",
}
# Places in the queue where something goes wrong; a short file ends before the first of them.
TROUBLES = {
    13: "busy",
    20: "flagged",
    24: "expired",
    27: "busy",
    31: "cut",
    35: "refused",
    40: "busy",
    46: "expired",
    50: "lost",
}
FAILURES = {
    "busy": (429, "rate_limit_exceeded", "Rate limit reached for requests."),
    "flagged": (400, "invalid_prompt", "Invalid prompt: it was flagged as a violation of policy."),
}
EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def answer(requests: str | Path, output: str | Path, errors: str | Path) -> None:
    """Answer the requests of one file: in no particular order, in an output and an error file."""
    queue = [json.loads(line) for line in Path(requests).read_bytes().split(b"\n") if line]
    random.Random(len(queue)).shuffle(queue)
    files: dict[str | Path, list[str]] = {output: [], errors: []}
    for place, request in enumerate(queue):
        trouble = TROUBLES.get(place)
        if trouble != "lost":
            failed = trouble == "expired" or trouble in FAILURES
            # As the service does, this writes ASCII: é is \u00e9.
            line = json.dumps(result(request, trouble)) + "\n"
            files[errors if failed else output].append(line)
    for path, lines in files.items():
        Path(path).write_bytes("".join(lines).encode("ascii"))


def result(request: dict[str, Any], trouble: str | None) -> dict[str, Any]:
    """Make the line that comes back for a request."""
    custom_id, body = request["custom_id"], request["body"]
    number = uuid.uuid5(uuid.NAMESPACE_URL, custom_id)
    line = {"id": f"batch_req_{number.hex}", "custom_id": custom_id}
    if trouble == "expired":
        return {**line, "response": None, "error": EXPIRED}
    response: dict[str, Any] = {"status_code": 200, "request_id": str(number)}
    if trouble in FAILURES:
        status, code, text = FAILURES[trouble]
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": code}
        response |= {"status_code": status, "body": {"error": error}}
    else:
        response["body"] = answered(body, f"chatcmpl-{number.hex}", trouble)
    return {**line, "response": response, "error": None}


def answered(body: dict[str, Any], name: str, trouble: str | None) -> dict[str, Any]:
    """Make the body of a response."""
    schema = body["response_format"]["json_schema"]["schema"]
    review = body["messages"][-1]["content"]
    said = {key: made_up(part, review) for key, part in schema["properties"].items()}
    content = json.dumps(said, ensure_ascii=False)
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    finish_reason = "stop"
    if trouble == "cut":
        message["content"], finish_reason = content[: len(content) // 2], "length"
    if trouble == "refused":
        message |= {"content": None, "refusal": "I'm sorry, but I can't help with that."}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 1_795_500_000,
        "model": body["model"],
        "choices": [choice],
        "usage": usage(body["messages"], message, len(sentences(review))),
    }


def usage(asked: list[dict[str, Any]], said: dict[str, Any], thoughts: int) -> dict[str, Any]:
    """Count tokens roughly: four bytes are one."""
    prompt = sum(len(message["content"].encode()) // 4 + 4 for message in asked)
    reasoning = 64 * (thoughts // 4)
    completion = reasoning + len((said["content"] or said["refusal"]).encode()) // 4
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def made_up(schema: dict[str, Any], review: str) -> Any:
    """Make up a value that a schema allows: a mood, stars, a complaint or null, or topics."""
    kind = schema.get("anyOf", [schema])[0]["type"]
    stars = min(max(3 + count(LIKED, review) - count(DISLIKED, review), 1), 5)
    if "enum" in schema:
        # From the best to the worst.
        return schema["enum"][round((5 - stars) / 4 * (len(schema["enum"]) - 1))]
    if kind == "integer":
        return stars
    if kind == "array":
        return [topic for topic, words in TOPICS.items() if count(words, review)]
    return next((s for s in sentences(review) if count(DISLIKED, s)), None)


def sentences(text: str) -> list[str]:
    """Cut a text into its sentences."""
    parts = re.split(r"(?<=[.!?])\s|(?<=[。！？])|\n", text)
    return [part.strip() for part in parts if part.strip()]


def count(words: str, text: str) -> int:
    """Count which of some words begin somewhere in a text."""
    return len(set(re.findall(rf"(?<![a-z])(?:{words})", text.lower())))


if __name__ == "__main__":
    answer(*sys.argv[1:])
