"""Tables of docs/TESTING.md that tests fill: what each has seen, by machine."""
import os

from lib_tap import ROOT

PAGE = os.path.join(ROOT, "docs", "TESTING.md")
END = "<!-- end -->\n"


class Table:
    """It stands between the line `made by MAKER --docs` and the next end mark. A row is known by the texts of its first
    cells, those below `heads`; a cell that nobody has filled says `not run`."""

    def __init__(self, maker, heads, columns):
        self.begin = f"<!-- made by {maker} --docs -->\n"
        self.heads, self.columns = heads, columns

    def line(self, cells):
        return "| " + " | ".join(cells) + " |\n"

    def write(self, row, column, text):
        """One cell anew; the others stay. A row that is not there comes last."""
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        begin = page.index(self.begin) + len(self.begin)
        end = page.index(END, begin)
        rows = {}
        for line in page[begin:end].splitlines()[3:-1]:     # behind an empty line, the titles and their rule
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[tuple(cells[:len(self.heads)])] = dict(zip(self.columns, cells[len(self.heads):]))
        rows.setdefault(row, {})[column] = text
        table = [self.line([*self.heads, *self.columns]), "|---" * (len(self.heads) + len(self.columns)) + "|\n",
                 *(self.line([*key, *(cells.get(name, "not run") for name in self.columns)])
                   for key, cells in rows.items())]
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(page[:begin] + "\n" + "".join(table) + "\n" + page[end:])
