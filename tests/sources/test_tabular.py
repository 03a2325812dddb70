"""CSV, TSV and Parquet: a column of replies, the others around them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders.sources import (
    one,
    read,
    reasons,
    written,
)

from verifyanalytics.errors import UsageError
from verifyanalytics.parsing.fast.flattener import Flattener
from verifyanalytics.parsing.text import ReadOptions
from verifyanalytics.sources import reading as sources
from verifyanalytics.sources.streams import MAX_DOCUMENTS

CELLS = ['{"code":1,"x":"a, \\"b\\"\\n"}', '{"code":2}', '{"response":{"code":9}}", "evil":1}']


def envelopes(source, **options):
    documents, rejects = read(source, **options)
    return [(row, json.loads(text)) for row, text in documents], rejects


def occurred(source):
    """Times as rows have them."""
    moments = []
    for block in sources.blocks(source):
        made = Flattener(ReadOptions()).flatten(block).verifications["occurred_at"].to_pylist()
        moments += [None if m is None else f"{m:%Y-%m-%d %H:%M:%S.%f}" for m in made]
    return [None if m is None else m.rstrip("0").rstrip(".") if "." in m else m for m in moments]


class TestTables:
    def parquet(self, folder, name="a.parquet", **columns):
        pq.write_table(pa.table(columns), folder / name, row_group_size=2)
        return folder / name

    def test_a_column_and_its_context(self, tmp_path):
        at = datetime(2024, 6, 1, 20, 0, 0, 123456, tzinfo=UTC)
        path = self.parquet(
            tmp_path,
            response=CELLS,
            at=pa.array([at] * 3, pa.timestamp("ns", "Asia/Shanghai")),
            subject=["s1", "s2", None],
            channel=pa.array(["app", None, "web"]).dictionary_encode(),
            n=[1, 2, 3],
            list=[[1], None, []],
        )
        found, rejects = envelopes(one(path, column="response", time_column="at"))
        assert not rejects
        assert [row for row, _ in found] == [1, 2, 3]
        assert [envelope["response"] for _, envelope in found] == CELLS
        assert {envelope["occurred_at"] for _, envelope in found} == {"2024-06-01T20:00:00.123456Z"}
        assert [envelope.get("subject") for _, envelope in found] == ["s1", "s2", None]
        assert [envelope["context"] for _, envelope in found] == [
            {"channel": "app", "n": "1", "list": "[1]"},
            {"n": "2"},
            {"channel": "web", "n": "3", "list": "[]"},
        ]

    @pytest.mark.parametrize(
        "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]
    )
    def test_text_and_bytes(self, tmp_path, kind):
        path = self.parquet(tmp_path, response=pa.array(CELLS).cast(pa.binary()).cast(kind))
        found, _ = envelopes(one(path, column="response"))
        assert [envelope["response"] for _, envelope in found] == CELLS

    def test_cells_without_an_answer_keep_their_row(self, tmp_path):
        cells = pa.array([b"{}", None, b"", b"\xff", b"A" * 3000, b"{}"])
        path = self.parquet(tmp_path, response=cells)
        found, rejects = envelopes(one(path, column="response"), max_document=2000)
        assert [row for row, _ in found] == [1, 6]
        assert [(r.row, r.reason, r.byte_offset) for r in rejects] == [
            (2, "not_a_response", None),
            (3, "not_a_response", None),
            (4, "encoding", None),
            (5, "size", None),
        ]

    def test_a_damaged_file(self, tmp_path):
        path = self.parquet(tmp_path, response=[f'{{"code":{i}}}' for i in range(10)])
        data = bytearray(path.read_bytes())
        column = pq.ParquetFile(path).metadata.row_group(3).column(0)
        data[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
        found, rejects = envelopes(one(written(tmp_path, "b.parquet", data), column="response"))
        assert 0 < len(found) <= 6
        assert [(r.row, r.reason) for r in rejects] == [(len(found) + 1, "source")]
        short = written(tmp_path, "c.parquet", data[:50])
        assert reasons(one(short, column="response")) == [(1, "source")]

    def test_csv(self, tmp_path):
        text = "\ufeffid,response,occurred_at,http_status\r\n"
        quoted = [cell.replace('"', '""') for cell in CELLS]
        text += "".join(f'{i},"{cell}",2024-06-0{i},200\r\n' for i, cell in enumerate(quoted, 1))
        source = one(written(tmp_path, "a.csv", text.encode()), column="response")
        found, rejects = envelopes(source)
        assert not rejects
        assert found == [
            (
                i,
                {
                    "response": cell,
                    "occurred_at": f"2024-06-0{i}",
                    "http_status": 200,
                    "context": {"id": str(i)},
                },
            )
            for i, cell in enumerate(CELLS, 1)
        ]

    def test_csv_with_line_breaks_in_a_cell(self, tmp_path):
        data = b'response,n\n"{""code"":\n1}",x\n'
        found, rejects = envelopes(one(written(tmp_path, "a.csv", data), column="response"))
        assert not rejects
        assert found == [(1, {"response": '{"code":\n1}', "context": {"n": "x"}})]

    def test_tsv_takes_json_as_it_is(self, tmp_path):
        data = b'n\tresponse\n1\t{"code":1,"m":"a, \\" b"}\n2\t{"code":2}'
        found, rejects = envelopes(one(written(tmp_path, "a.tsv", data), column="response"))
        assert not rejects
        assert [e["response"] for _, e in found] == ['{"code":1,"m":"a, \\" b"}', '{"code":2}']

    def test_malformed_csv_rows_are_refused_one_by_one(self, tmp_path):
        rows_of_csv = [
            b'1,"{""code"":1}"',
            b"2",
            b'3,"{\\"code\\":3}"',
            b"4,",
            b'5,"{""code"":5},',
            b'6,"{""code"":6}"',
            b'7,"\xff"',
            b'8,"{""code"":8}"',
        ]
        data = b"id,response\n" + b"\n".join(rows_of_csv)
        found, rejects = envelopes(one(written(tmp_path, "a.csv", data), column="response"))
        assert [(row, e["context"]["id"]) for row, e in found] == [(1, "1"), (6, "6"), (8, "8")]
        assert [(r.row, r.reason) for r in rejects] == [
            (2, "source"),
            (3, "source"),
            (4, "not_a_response"),
            (5, "source"),
            (7, "encoding"),
        ]
        for reject in rejects:
            row_text = rows_of_csv[reject.row - 1]
            assert data[reject.byte_offset :].startswith(row_text)

    def test_a_csv_line_too_large(self, tmp_path):
        data = b"id,response\n1," + b"A" * 5000 + b"\n2,{}\n"
        source = one(written(tmp_path, "a.csv", data), column="response")
        found, rejects = envelopes(source, max_document=1000, block_bytes=100)
        assert [row for row, _ in found] == [2]
        assert [(r.row, r.reason, r.n_bytes) for r in rejects] == [(1, "size", 5002)]

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
    def test_a_wrong_column_lists_what_is_there(self, tmp_path, name):
        path = tmp_path / name
        if name == "a.parquet":
            self.parquet(tmp_path, id=[1], payload=["{}"])
        else:
            path.write_bytes(
                (gzip.compress if name.endswith("gz") else bytes)(b"id,payload\n1,{}\n")
            )
        with pytest.raises(UsageError, match=r"no column response; it has: id, payload"):
            one(path, column="response")
        with pytest.raises(UsageError, match=r"name the column .*id, payload"):
            one(path)
        with pytest.raises(UsageError, match="no column at"):
            one(path, column="payload", time_column="at")
        with pytest.raises(UsageError, match="no column response"):
            read(replace(one(path, column="payload"), column="response"))

    def test_a_column_that_is_no_text(self, tmp_path):
        path = self.parquet(tmp_path, response=[{"code": 1}])
        with pytest.raises(UsageError, match="struct<code: int64>, not text"):
            one(path, column="response")

    @pytest.mark.parametrize(
        ("column", "moments"),
        [
            (pa.array([1714521600, None]), ["2024-05-01 00:00:00", None]),
            (pa.array([1714521600123]), ["2024-05-01 00:00:00.123"]),
            (pa.array([1714521600.25]), ["2024-05-01 00:00:00.25"]),
            (pa.array(["1714521600", "soon"]), ["2024-05-01 00:00:00", None]),
            (pa.array([date(2024, 5, 1)]), ["2024-05-01 00:00:00"]),
            (pa.array([datetime(2024, 5, 1, 8)], pa.timestamp("s")), ["2024-05-01 08:00:00"]),
            (
                pa.array([datetime(2024, 5, 1, tzinfo=UTC)], pa.timestamp("ns", "+08:00")),
                ["2024-05-01 00:00:00"],
            ),
        ],
    )
    def test_times_of_every_type(self, tmp_path, column, moments):
        cells = ['{"code":1}'] * len(column)
        source = one(self.parquet(tmp_path, r=column, a=cells), column="a", time_column="r")
        assert occurred(source) == moments
        if not pa.types.is_date(column.type):
            text = "".join(
                f'{"" if v is None else v},"{{""code"":1}}"\n' for v in column.to_pylist()
            )
            path = written(tmp_path, "a.csv", b"r,a\n" + text.encode())
            assert occurred(one(path, column="a", time_column="r")) == moments

    def test_columns_of_one_name_are_refused(self, tmp_path):
        path = written(tmp_path, "a.csv", b"id,response,c,c\n1,{},x,y\n")
        with pytest.raises(UsageError, match="more than one column is called c;"):
            one(path, column="response")
        table = pa.Table.from_arrays([pa.array(["{}"])] * 3, ["response", "c", "c"])
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(UsageError, match="more than one column is called c;"):
            one(tmp_path / "a.parquet", column="response")

    def test_columns_without_a_name_have_a_number(self, tmp_path):
        path = written(tmp_path, "a.csv", b"response,,\n{},x,y\n")
        [(_, envelope)], _ = envelopes(one(path, column="response"))
        assert envelope["context"] == {"column 2": "x", "column 3": "y"}

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_a_cell_that_is_not_utf8_is_told(self, tmp_path, name):
        if name == "a.csv":
            path = written(tmp_path, name, b"response,c\n{},x\n{},\xff\n{},y\n")
        else:
            broken = pa.array([b"x", b"\xff", b"y"]).view(pa.string())
            path = self.parquet(tmp_path, response=["{}"] * 3, c=broken)
        found, [reject] = envelopes(one(path, column="response"))
        assert [row for row, _ in found] == [1, 3]
        assert (reject.row, reject.reason) == (2, "encoding")
        assert reject.detail == "the cell of column c is not UTF-8"

    def test_a_nested_cell_that_is_not_utf8_is_told(self, tmp_path):
        broken = pa.array([b"x", b"\xff"]).view(pa.string())
        lists = pa.ListArray.from_arrays([0, 1, 2], broken)
        path = self.parquet(tmp_path, response=["{}"] * 2, c=lists)
        found, [reject] = envelopes(one(path, column="response"))
        assert [envelope["context"] for _, envelope in found] == [{"c": '["x"]'}]
        assert (reject.row, reject.reason) == (2, "encoding")

    def test_personal_cells_leave_their_size(self, tmp_path):
        face = {"image_best": "QUJD", "raw": b"QUJD", "n": 1}
        path = self.parquet(
            tmp_path,
            response=['{"code":1}'],
            image_best=["QUJD"],
            IDCARD_NO=["QUJD"],
            st=pa.array([face]),
            raw=pa.array([b"QUJD"]),
        )
        csv = b'image_best,response,st\nQUJD,"{""code"":1}","{""video"":""QUJD""}"\n'
        for source in (
            one(path, column="response"),
            one(written(tmp_path, "a.csv", csv), column="response"),
        ):
            [block] = sources.blocks(source)
            [row] = Flattener(ReadOptions()).flatten(block).verifications.to_pylist()
            assert "QUJD" not in repr(row)
            assert "image_best" in row["extra"]
        assert row["ctx_st"] == '{"video":"[4 bytes]"}'

    def test_many_tiny_rows_come_in_several_blocks(self, tmp_path):
        data = b"id,response\n" + b'"a\n' * (2 * MAX_DOCUMENTS)
        made = list(sources.blocks(one(written(tmp_path, "a.csv", data), column="response")))
        assert len(made) >= 2
        assert max(len(block.rejects) for block in made) <= MAX_DOCUMENTS

    def test_compressed_parquet_is_refused(self, tmp_path):
        path = self.parquet(tmp_path, response=["{}"])
        packed = written(tmp_path, "b.parquet.gz", gzip.compress(path.read_bytes()))
        documents, [reject] = read(one(packed, column="response"))
        assert not documents
        assert "decompress" in reject.detail
