"""Turn tables into OpenAI Batch API request files, and what comes back into DataFrames."""

import lazy_loader

# The names, and the modules that have them, are those of the stub beside this file.
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
