"""What all pages share: tables of Markdown, and what the tracer says of one run as a row of cells."""

import running


def cell(value, digits=4):
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def table(columns, rows):
    lines = ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows] + [""]


def ratio(ours, theirs):
    return ours / theirs if ours and theirs else None


def traced_row(runner, name, arguments, label, key, has_ledger=True):
    """What the tracer says of one variant: cells of TRACED_COLUMNS. A program in Python has no ledger to the byte: its tensors
    begin and end inside of pages."""
    try:
        rows, report = runner.trace(name, arguments, f"{label} traced")
    except running.Failed as failed:
        return [key, "-", "-", f"failed: {failed}", "-", "-"]
    if has_ledger:
        equal, words = running.compare_bytes(rows, report)
        if not equal:
            runner.failures.append(f"{label}: {words}")
    else:
        totals = report.get("totals", {})
        words = ", ".join(f"{words} {totals.get(key, 0)}" for words, key in (("to the GPU", "host_to_device_bytes"),
                                                                             ("to the host", "device_to_host_bytes")))
        if "offloaded_bytes" in rows[-1]:
            words += f"; the server asked {rows[-1]['offloaded_bytes']} to leave"
    return [key, running.faults(report), running.bh_seconds(report), words, running.first_finding(report),
            running.headline(report)]


TRACED_COLUMNS = ("run", "fault entries", "BH thread [s]", "traced bytes and the example's own ledger", "first finding",
                  "the report's headline")
