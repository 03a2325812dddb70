"""The live demo: both sides agree, whatever went wrong on the way."""

from verifyanalytics.demo_live import run_live_demo


def test_collector_and_vendor_agree(tmp_path):
    demo = run_live_demo(tmp_path, n=120, seed=3)
    told = demo.bill.set_index("count")
    assert told.loc["calls processed", "collector"] == told.loc["calls processed", "vendor"]
    assert told.loc["processed more than once", "vendor"] == 0
    assert told.loc["rows in the store", "collector"] == told.loc["rows in the store", "vendor"]
    gap = told.loc["units billed", "vendor"] - told.loc["units billed", "collector"]
    assert 0 <= gap <= told.loc["calls whose billing is unknown", "collector"]
    assert demo.collected.states["IN_DOUBT"] > 0
    assert demo.resolved.exit_code == 0
