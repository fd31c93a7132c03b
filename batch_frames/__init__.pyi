from .batches import cancel as cancel
from .batches import download as download
from .batches import load_jobs as load_jobs
from .batches import run_local as run_local
from .batches import status as status
from .batches import submit as submit
from .batches import wait as wait
from .errors import BatchFramesError as BatchFramesError
from .errors import ColumnError as ColumnError
from .errors import JobError as JobError
from .errors import LineError as LineError
from .errors import MissingExtra as MissingExtra
from .errors import RequestError as RequestError
from .errors import TemplateError as TemplateError
from .errors import WaitTimeout as WaitTimeout
from .estimates import estimate as estimate
from .files import Job as Job
from .files import Limits as Limits
from .files import Shard as Shard
from .plans import Plan as Plan
from .plans import plan as plan
from .requests import BatchCreator as BatchCreator
from .requests import check_requests as check_requests
from .requests import col as col
from .requests import fmt as fmt
from .requests import from_csv as from_csv
from .requests import from_dataframe as from_dataframe
from .requests import from_parquet as from_parquet
from .requests import read_requests as read_requests
from .results import join_results as join_results
from .results import plot_results as plot_results
from .results import read_results as read_results
from .results import summarize as summarize
from .retry import retry_requests as retry_requests
from .run import run as run

__all__: list[str]
__version__: str
