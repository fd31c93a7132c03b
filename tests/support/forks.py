"""Prepare a process that forks others, so that they start quickly."""

from typing import Any


def load_all() -> None:
    """Import what the forked processes would import, each one again."""
    import multiprocessing.synchronize

    import openai.resources.batches
    import openai.resources.files
    import tqdm
    from filelock import FileLock, SoftFileLock

    import batch_frames as bf

    used = [bf.BatchCreator, bf.submit, bf.wait, bf.download]
    assert all([multiprocessing, openai, tqdm, FileLock, SoftFileLock, *used])


def make_client(url: str) -> Any:
    """Make a client, without the certificates that take most of the time."""
    from openai import DefaultHttpxClient, OpenAI

    http_client = DefaultHttpxClient(verify=False)
    return OpenAI(base_url=url, api_key="test", http_client=http_client)
