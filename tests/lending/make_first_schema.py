"""Made ``first_schema.json`` when revision r0001 was the newest one: loans as a database of that schema held them.

It is kept as the file it made, and not made again: what a first database holds does not change any more.
    PYTHONPATH=src:tests/ledger:tests/lending python tests/lending/make_first_schema.py
"""

from __future__ import annotations

import base64
import json
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from loankit import REASON, Bench

from taxledger.lending.loans.store import open_store

FILE = Path(__file__).with_name("first_schema.json")
COLUMNS = {
    "loans": "id sequence head state active subject product opened_ms changed_ms",
    "loan_events": "loan sequence kind key at_ms body previous hash",
    "loan_files": "loan digest data",
}


def plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def make(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """A loan that is drawn and partly repaid, one that is offered, one that is incomplete, one that is closed."""
    store = open_store(f"sqlite:///{folder}/loans.sqlite")
    bench = Bench(store, folder)
    loan = bench.paid_out("drawn")
    bench.clock.day = date(2024, 3, 11)
    bench.engine.draw("drawn", bench.order(loan, 3_000_000))
    bench.engine.advance("drawn")
    bench.clock.day = date(2024, 3, 31)
    bench.engine.repay("drawn", reference="R1", amount=3_030_000, value_date=date(2024, 3, 31))
    bench.offered("offered")
    bench.paid_out("closed")
    bench.engine.repay("closed", reference="R2", amount=6_000_000, value_date=date(2024, 3, 31))
    bench.engine.close("closed")
    bench.engine.advance("closed")
    bench.world.came = replace(bench.world.came, reasons=(REASON,))
    bench.offered("incomplete")
    with sa.create_engine(f"sqlite:///{folder}/loans.sqlite").connect() as connection:
        return {
            table: [
                {name: plain(value) for name, value in row._mapping.items()}
                for row in connection.execute(
                    sa.text(f"SELECT {', '.join(names.split())} FROM {table} ORDER BY 1, 2")
                )
            ]
            for table, names in COLUMNS.items()
        }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        FILE.write_text(json.dumps(make(Path(name)), indent=1, ensure_ascii=False) + "\n", "utf-8")
