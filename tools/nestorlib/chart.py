"""The chart of what operations of nested VMX cost, as SVG: a bar for each L0, on a logarithmic scale."""
import math

# Rows of guests/bench, and what the chart calls them.
ROWS = {
    "vmcall": "VMCALL of L2, no work in L1",
    "cpuid": "CPUID of L2, handled by L1",
    "rdmsr": "RDMSR of L2, handled by L1",
    "interrupt": "interrupt in L2, taken by L1",
    "ept-violation": "EPT violation of L2, handled by L1",
    "vmptrld-vmcall": "VMPTRLD and round trip, two VMCSs",
    "vmptrld": "VMPTRLD alternating",
    "vmread-host-rip": "VMREAD that exits",
    "vmwrite-msr-bitmap": "VMWRITE that exits",
    "touch-4k-sequential": "first touch of a page by L2",
    "touch-4k-after-invept": "the same again after INVEPT",
    "invept-single": "INVEPT",
    "invept-single-vmcall": "INVEPT and round trip",
    "l2-rdmsr-lstar": "RDMSR of LSTAR in L2, not intercepted",
    "l2-wrmsr-efer": "WRMSR of EFER in L2, not intercepted",
    "l1-cpuid": "CPUID of L1",
}
COLUMNS = ("bare", "Nestor", "KVM (off)", "KVM (default)")
LEFT, WIDTH, BAR, GAP, TOP = 300, 600, 9, 12, 84
DECADES = 5     # 1 to 100,000 ticks

STYLE = """\
    .ground { fill: #ffffff; }
    text { fill: #1c1c1c; }
    .name { font-weight: bold; font-size: 15px; }
    .note { fill: #4a4a4a; font-size: 12px; }
    .figure { font-size: 10px; }
    .grid { stroke: #cccccc; }
    .c0 { fill: #9a9a9a; } .c1 { fill: #3b8a45; } .c2 { fill: #2f78a8; } .c3 { fill: #8fbbd8; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #15181c; }
      text { fill: #f0f0f0; }
      .note { fill: #c4c8cc; }
      .grid { stroke: #3c4147; }
      .c0 { fill: #8a8a8a; } .c1 { fill: #6cc077; } .c2 { fill: #6fb7e3; } .c3 { fill: #3c6f8f; }
    }"""


def position(ticks):
    return WIDTH * math.log10(max(ticks, 1)) / DECADES


def legend():
    lines = []
    for index, name in enumerate(COLUMNS):
        x = LEFT + index * 150
        lines.append(f'  <rect class="c{index}" x="{x}" y="48" width="12" height="12"/>')
        lines.append(f'  <text class="note" x="{x + 18}" y="59">{name}</text>')
    return lines


def grid(bottom):
    lines = []
    for decade in range(DECADES + 1):
        x = LEFT + WIDTH * decade / DECADES
        lines.append(f'  <line class="grid" x1="{x:.0f}" y1="{TOP - 6}" x2="{x:.0f}" y2="{bottom}"/>')
        lines.append(f'  <text class="note" x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{10 ** decade:,}</text>')
    return lines


def group(label, values, top):
    """The bars of one row."""
    middle = top + BAR * len(COLUMNS) / 2 + 4
    lines = [f'  <text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{label}</text>']
    for index, ticks in enumerate(values):
        y, width = top + index * BAR, position(ticks)
        lines.append(f'  <rect class="c{index}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 1}"/>')
        if COLUMNS[index] in ("Nestor", "KVM (off)"):
            figure = f"{ticks:,.0f}"
            lines.append(f'  <text class="figure" x="{LEFT + width + 4:.1f}" y="{y + BAR - 1}">{figure}</text>')
    return lines


def draw(results):
    """The whole file."""
    ticks = results["ticks"]
    rows = [(label, [ticks[name][key] for name in COLUMNS]) for key, label in ROWS.items() if key in ticks["Nestor"]]
    step = BAR * len(COLUMNS) + GAP
    bottom = TOP + step * len(rows)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {bottom + 48}" role="img"',
             '     aria-labelledby="title" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="13">',
             '  <title id="title">What operations of nested VMX cost, in ticks of Bochs</title>',
             f"  <style>\n{STYLE}\n  </style>",
             f'  <rect class="ground" width="{LEFT + WIDTH + 60}" height="{bottom + 48}"/>',
             '  <text class="name" x="20" y="30">Ticks (instructions) for each operation, on '
             f'{results["of"]["cpu"]}</text>', *legend(), *grid(bottom)]
    for index, (label, values) in enumerate(rows):
        lines += group(label, values, TOP + index * step)
    lines.append(f'  <text class="note" x="{LEFT}" y="{bottom + 38}">logarithmic scale; the figures are of Nestor '
                 "and of KVM without mitigations</text>")
    return "\n".join([*lines, "</svg>"]) + "\n"
