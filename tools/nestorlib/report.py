"""Tables of what guests/bench measured."""

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


def lines(cells, markdown=False):
    """The first column is to the left, the others to the right."""
    if markdown:
        first, *rest = [f"| {' | '.join(row)} |" for row in cells]
        return [first, "|---|" + "---:|" * (len(cells[0]) - 1), *rest]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
            for row in cells]
