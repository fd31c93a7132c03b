"""Decimals and moments become JSON text as a loop of ``json.dumps`` would write them."""

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_frames.arrow.encode import to_text
from tests.support.json_text import oracle, write

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
UTC = dt.UTC


class TestDecimals:
    """Decimals are text with all their digits."""

    DECIMALS = ("1.50", "-0.01", "0.00", None, "1234567.89")

    @pytest.mark.parametrize("kind", [pa.decimal128(9, 2), pa.decimal256(50, 2)], ids=str)
    def test_decimals(self, kind: pa.DataType) -> None:
        """The text is Python's, trailing zeros kept."""
        array = pa.array([None if d is None else Decimal(d) for d in self.DECIMALS], kind)
        assert write(array) == oracle(list(self.DECIMALS))
        assert write(array, to_text) == list(self.DECIMALS)
        assert write(array[1:4]) == oracle(list(self.DECIMALS[1:4]))

    def test_more_digits_than_a_float_holds(self) -> None:
        """No digit is lost on the way."""
        digits = "12345678901234567890123456789012345.678"
        assert write(pa.array([Decimal(digits)], pa.decimal128(38, 3))) == [f'"{digits}"']

    @given(st.decimals(-(10**12), 10**12, places=6))
    def test_decimals_are_written_as_python_writes_them(self, value: Decimal) -> None:
        """The text equals ``str`` of the value that Arrow gives back."""
        array = pa.array([value], pa.decimal128(30, 6))
        assert write(array) == [f'"{array[0].as_py()}"']


class TestMoments:
    """Dates and times are ISO 8601, in the forms of Python's ``isoformat``."""

    @given(st.lists(st.none() | st.dates()))
    def test_dates(self, values: list[dt.date | None]) -> None:
        """Dates of both of Arrow's types, in all the years that Python has."""
        expected = oracle([None if value is None else value.isoformat() for value in values])
        assert write(pa.array(values, pa.date32())) == expected
        assert write(pa.array(values, pa.date64())) == expected

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @given(
        values=st.lists(st.none() | st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)))
    )
    @example(values=[dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), None, dt.datetime(1970, 1, 1)])
    def test_timestamps_without_zone(self, unit: str, values: list[dt.datetime | None]) -> None:
        """With ``T``, without an offset, the fraction as Python has it, before 1970 too."""
        array = pa.array(values, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False)
        exact = array.cast(pa.timestamp("us")).to_pylist()
        texts = [None if value is None else value.isoformat() for value in exact]
        assert write(array) == oracle(texts)
        assert write(array, to_text) == texts
        assert write(array[1:]) == oracle(texts[1:])

    @given(values=st.lists(st.none() | st.datetimes()))
    def test_timestamps_in_all_years(self, values: list[dt.datetime | None]) -> None:
        """From the year 1 to the year 9999, which nanoseconds cannot hold."""
        expected = oracle([None if value is None else value.isoformat() for value in values])
        assert write(pa.array(values, pa.timestamp("us"))) == expected

    @pytest.mark.parametrize("zone", ZONES)
    @given(
        values=st.lists(
            st.none() | st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2037, 1, 1)), max_size=8
        )
    )
    def test_timestamps_with_zone(self, zone: str, values: list[dt.datetime | None]) -> None:
        """Local time with its offset from UTC, which summer and winter change."""
        moments = [None if v is None else v.replace(tzinfo=UTC) for v in values]
        local = [None if m is None else m.astimezone(ZoneInfo(zone)).isoformat() for m in moments]
        array = pa.array(moments, pa.timestamp("us", zone))
        assert write(array) == oracle(local)
        assert write(array, to_text) == local
        assert write(array[1:]) == oracle(local[1:])

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @pytest.mark.parametrize(
        ("zone", "text"),
        [
            ("UTC", "2024-03-31T01:00:00+00:00"),
            ("Europe/Berlin", "2024-03-31T03:00:00+02:00"),
            ("America/St_Johns", "2024-03-30T22:30:00-02:30"),
            ("+05:30", "2024-03-31T06:30:00+05:30"),
            ("-09:30", "2024-03-30T15:30:00-09:30"),
        ],
    )
    def test_the_hour_when_clocks_change(self, zone: str, text: str, unit: str) -> None:
        """Zones with names and fixed offsets, in each of Arrow's units."""
        moment = dt.datetime(2024, 3, 31, 1, tzinfo=UTC)
        array = pa.array([None, moment], pa.timestamp(unit, zone))
        assert write(array) == [None, f'"{text}"']
        assert dt.datetime.fromisoformat(text) == moment

    @given(values=st.lists(st.integers(-(2**62), 2**62)), zone=st.sampled_from([None, "UTC"]))
    @example(values=[0, 1, 1_000, 1_000_000, 1_000_000_000, -1, 120], zone=None)
    def test_nanoseconds(self, values: list[int], zone: str | None) -> None:
        """Nanoseconds are written as pandas writes them: no, six or nine digits."""
        expected = [f'"{pd.Timestamp(value, unit="ns", tz=zone).isoformat()}"' for value in values]
        assert write(pa.array(values, pa.timestamp("ns", zone))) == expected

    def test_the_offsets_before_time_zones(self) -> None:
        """An offset has minutes at the finest in ISO 8601, and the moment stays the same."""
        moments = [dt.datetime(1850, 5, 5, 12, 34, 56, tzinfo=UTC)]
        for zone in ZONES:
            (row,) = write(pa.array(moments, pa.timestamp("us", zone)), to_text)
            assert row is not None
            assert len(row) == len("1850-05-05T12:34:56+00:00")
            assert dt.datetime.fromisoformat(row) == moments[0]

    @given(st.lists(st.none() | st.times()))
    def test_times_of_day(self, values: list[dt.time | None]) -> None:
        """Times of day in Arrow's four units."""
        for kind in (pa.time64("us"), pa.time64("ns"), pa.time32("ms"), pa.time32("s")):
            array = pa.array(values, pa.time64("us")).cast(kind, safe=False)
            exact = array.cast(pa.time64("us")).to_pylist()
            texts = [None if value is None else value.isoformat() for value in exact]
            assert write(array) == oracle(texts)

    def test_nanoseconds_of_a_time_of_day(self) -> None:
        """The last three digits are kept where they are not zero."""
        array = pa.array([1, 1_000, 86_399_999_999_999], pa.int64()).view(pa.time64("ns"))
        texts = ["00:00:00.000000001", "00:00:00.000001", "23:59:59.999999999"]
        assert write(array, to_text) == texts
