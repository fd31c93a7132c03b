"""Any table in as chunks, and Arrow tables out as DataFrames."""

from batch_frames.frames.arrow import ParquetSource, find_columns, read_stream, without_views
from batch_frames.frames.chunks import TABLE, Chunk, Position, Source, open_arrow, use_stream
from batch_frames.frames.csv import CsvSource
from batch_frames.frames.open import (
    DaskSource,
    is_dask,
    is_parquet,
    open_frame,
    partition_chunks,
    read_table,
    whole_frame,
    whole_table,
)
from batch_frames.frames.pandas import only_counts, to_dataframe, with_card, write_parquet

__all__ = [
    "TABLE",
    "Chunk",
    "CsvSource",
    "DaskSource",
    "ParquetSource",
    "Position",
    "Source",
    "find_columns",
    "is_dask",
    "is_parquet",
    "only_counts",
    "open_arrow",
    "open_frame",
    "partition_chunks",
    "read_stream",
    "read_table",
    "to_dataframe",
    "use_stream",
    "whole_frame",
    "whole_table",
    "with_card",
    "without_views",
    "write_parquet",
]
