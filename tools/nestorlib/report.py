"""Tables of what guests/bench measured."""

from nestorlib import estimate

OFTEN = 40
COLUMNS = ("bare", "Nestor", "KVM (off)", "KVM (default)")


def show(value):
    return "-" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def keys(columns):
    return list(dict.fromkeys(key for rows in columns.values() for key in rows))


def ratio(rows):
    """How many times Nestor's ticks KVM takes, without mitigations: what Nestor is without, too."""
    nestor, kvm = rows.get("Nestor"), rows.get("KVM (off)")
    return f"{kvm / nestor:.{1 if kvm >= nestor else 2}f}" if nestor and kvm else "-"


def ticks(results):
    """Cells of the table: a row for each key, a column for each run (name -> rows), and KVM's ratio if it was run."""
    columns = results["ticks"]
    cells = [["ticks", *columns] + ["KVM/Nestor"] * ("KVM (off)" in columns)]
    for key in keys(columns):
        row = {name: rows[key] for name, rows in columns.items() if key in rows}
        cells.append([key, *(show(row.get(name)) for name in columns)] + [ratio(row)] * ("KVM (off)" in columns))
    return cells


def show_count(value):
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def counts(results):
    """Cells: how often Nestor executes VMX instructions in each row, and what that may be in cycles. Without the rows
    in which Nestor does nothing."""
    cells = [["Nestor, for each turn", *estimate.COUNTED, "ticks", "ESTIMATE, cycles"]]
    for key, row in results.get("counts", {}).items():
        if any(row.values()):
            nestor = results["ticks"]["Nestor"][key]
            cells.append([key, *map(show_count, row.values()), show(nestor), show(estimate.cycles(nestor, row))])
    return cells


def macro(results):
    """Cells: Linux as a whole, in millions of ticks; ratios to the run without L0."""
    columns = results["macro"]
    bare = columns["L0 none"]
    others = [name for name in columns if name != "L0 none"]
    cells = [["million ticks", *columns] + [f"{name[3:]}/none" for name in others]]
    for key in bare:
        cells.append([key, *(f"{rows[key] / 1e6:,.1f}" if key in rows else "-" for rows in columns.values()),
                      *(f"{columns[name][key] / bare[key]:.3f}" if key in columns[name] else "-" for name in others)])
    return cells


def exits(results):
    """Cells: the exits of L1 in a boot by reason, a column for each clock; reasons that are rare in one row."""
    columns = results["exits"]
    sums = [key for key in keys(columns) if key.startswith("all ")]
    often = [key for key in keys(columns)
             if key not in sums and max(rows.get(key, 0) for rows in columns.values()) >= OFTEN]
    others = {name: sum(count for key, count in rows.items() if key not in often + sums)
              for name, rows in columns.items()}
    shown = {name: rows | {"others": others[name]} for name, rows in columns.items()}
    return [["exits of L1", *(f"{name} ticks a second" for name in columns)],
            *([key, *(f"{rows.get(key, 0):,}" for rows in shown.values())] for key in [*often, "others", *sums])]


def latencies():
    """Cells: what the estimate takes each for."""
    return [["for each", "cycles", "from"]] + [[name, str(cycles), source] for name, (cycles, source) in
                                               estimate.CYCLES.items()] + [
        ["other instruction", str(estimate.INSTRUCTION), "assumed"]]


def lines(cells, markdown=False, left=(0,)):
    """The columns of `left` are words, the others numbers."""
    if markdown:
        first, *rest = [f"| {' | '.join(row)} |" for row in cells]
        return [first, "|" + "".join("---|" if i in left else "---:|" for i in range(len(cells[0]))), *rest]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                      for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in cells]


def whole(results, markdown=False):
    """Lines of all tables that the results have."""
    text = lines(ticks(results), markdown)
    if "counts" in results:
        text += ["", *lines(counts(results), markdown), "", *lines(latencies(), markdown, (0, 2))]
    if "macro" in results:
        text += ["", *lines(macro(results), markdown)]
    if "exits" in results:
        text += ["", *lines(exits(results), markdown)]
    return text
