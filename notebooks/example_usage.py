"""Show BatchCreator: with a JSON schema, without one, and how entries are managed.

python notebooks/example_usage.py [FOLDER]
"""

import sys
from pathlib import Path

from batch_frames import BatchCreator

MODEL = "gpt-5.6-luna"
REVIEWS = {
    "r1": "The kettle boils quickly and never drips.",
    "r2": 'It said "waterproof". It is not.\nThe second one leaked too.',
    "r3": "期待以上です。また買います 😊",
}
RATING = {
    "name": "rating",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "stars": {"type": "integer", "description": "from 1 to 5"},
            "complaint": {"type": ["string", "null"]},
        },
        "required": ["stars", "complaint"],
        "additionalProperties": False,
    },
}


def with_schema(folder: Path) -> None:
    """Ask for answers that follow a JSON schema."""
    creator = BatchCreator(
        model=MODEL,
        reasoning_effort="low",
        json_schema=RATING,
        system_prompt="Rate the review.",
    )
    for custom_id, review in REVIEWS.items():
        creator.add_entry(custom_id, review)
    for shard in creator.save_to_file(folder / "rated.jsonl"):
        print(f"with a schema: {shard.requests} requests, {shard.nbytes} bytes in {shard.path}")


def without_schema(folder: Path) -> None:
    """Ask for plain text."""
    creator = BatchCreator(
        model=MODEL, reasoning_effort="low", system_prompt="Translate the review into English."
    )
    for custom_id, review in REVIEWS.items():
        creator.add_entry(custom_id, review)
    for shard in creator.save_to_file(folder / "translated.jsonl"):
        print(f"without: {shard.requests} requests, {shard.nbytes} bytes in {shard.path}")


def managing_entries() -> None:
    """Count, preview and clear what was added."""
    creator = BatchCreator(model=MODEL, system_prompt="Rate the review.")
    creator.add_entry("r1", REVIEWS["r1"])
    creator.add_entry("r2", REVIEWS["r2"])
    print("entries:", creator.get_entry_count())
    print("the second asks:", creator.preview_entry(1)["body"]["messages"][1]["content"])
    try:
        creator.preview_entry(7)
    except IndexError as error:
        print("no eighth one:", error)
    creator.clear_entries()
    print("entries after clearing:", len(creator))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
    with_schema(target)
    without_schema(target)
    managing_entries()
