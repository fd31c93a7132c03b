"""Output and error files into one row per request, joined to their frame."""

from batch_frames.results.fields import (
    RANKS,
    RESULTS,
    STATUSES,
    UNANSWERED,
    Status,
    is_frame,
    lasting,
    names_in,
    own_results,
)
from batch_frames.results.join import join_results, row_ids
from batch_frames.results.known import KnownResults
from batch_frames.results.match import (
    best_rows,
    check_names,
    refuse_names_in_both,
    result_ids,
    result_ranks,
)
from batch_frames.results.outcomes import Found, Outcomes, is_lasting
from batch_frames.results.read import (
    empty_piece,
    read_answers,
    read_pieces,
    read_results,
    result_columns,
)
from batch_frames.results.scan import join_files, scan_results
from batch_frames.results.summary import (
    plot_results,
    summarize,
    summary_line,
    warn_of_unanswered,
    with_cost,
)

__all__ = [
    "RANKS",
    "RESULTS",
    "STATUSES",
    "UNANSWERED",
    "Found",
    "KnownResults",
    "Outcomes",
    "Status",
    "best_rows",
    "check_names",
    "empty_piece",
    "is_frame",
    "is_lasting",
    "join_files",
    "join_results",
    "lasting",
    "names_in",
    "own_results",
    "plot_results",
    "read_answers",
    "read_pieces",
    "read_results",
    "refuse_names_in_both",
    "result_columns",
    "result_ids",
    "result_ranks",
    "row_ids",
    "scan_results",
    "summarize",
    "summary_line",
    "warn_of_unanswered",
    "with_cost",
]
