"""Prepare a process that forks others, so that they start quickly."""


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
