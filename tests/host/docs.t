#!/usr/bin/env python3
"""The documentation says only what is so: what it names exists, and the lists that it repeats are complete.

In comments of the sources: every function() and path, every `make` target. In README.md, CONTRIBUTING.md and docs/:
every `file:function`, path, `make` target, option of a tool and relative link; in docs/OPTIONS.md every row of
kernel/options.def; in docs/FEATURES.md the tests; in docs/SDM.md every section that a comment of the sources cites.
Usage: tests/host/docs.t [--write-sdm]      (--write-sdm: makes the table of docs/SDM.md anew from the citations) """
import collections
import pathlib
import re
import sys

sys.dont_write_bytecode = True

ROOT = pathlib.Path(__file__).resolve().parents[2]
SDM_PAGE = ROOT / "docs" / "SDM.md"
MANY_TITLES = ("31.3", "6.15")      # a page for each instruction, for each exception
SOURCE_DIRS = ("boot", "kernel", "mm", "l1", "vmx", "nested", "start", "guests", "tests", "tools", "mk", "docs")
SOURCES = (".c", ".h", ".def", ".asm", ".inc", ".py", ".t", ".sh")

REFERENCE = re.compile(r"`([\w./-]+\.(?:c|h|asm|py|sh|t)):(\w+)`")
PATH = re.compile(r"(?<![\w./-])((?:%s)/[\w./-]*\w)" % "|".join(SOURCE_DIRS))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
CODE = re.compile(r"`([^`\n]+)`")
TARGET = re.compile(r"\bmake ([a-z][a-z_-]*)")
OPTION_ROW = re.compile(r'^OPTION\(\w+, "([^"]+)", (\w+), (\w+), ("[^"]+"|CHOICES_OF\(\w+\)),', re.M)
NESTOR_WORDS = re.compile(r'--nestor "([^"]*)"')

# SDM citations: the volume, then items of a number, a title or both.
NUMBER = r"(?:\d+(?:\.\d+)+|(?:chapter \d+|appendix [A-D]|[A-D](?:\.\d+)*))(?!\w)"
TITLE = r'"([A-Za-z0-9][^";{}]{1,99})"'
ITEM = rf"(?:{NUMBER},? *{TITLE}|{NUMBER}|(?:table )?{TITLE})"
CITATION = re.compile(rf"SDM (\d[A-D]?) ({ITEM}(?:(?:, | and | to |, table ){ITEM})*)")
PART = re.compile(rf"({NUMBER})?,? *(?:{TITLE})?")
SDM_ROW = re.compile(r"^\| (\d[A-D]?) \| ([^|]+) \| ([^|]+) \|$", re.M)
NO_NUMBER = "-"     # in the table's column


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def none(self, title, faults):
        """Passes when the list of faults is empty."""
        self.count += 1
        self.failed += bool(faults)
        print(f"{'not ok' if faults else 'ok'} {self.count} - {title}")
        for fault in faults:
            print(f"# {fault}")


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def read_rows(file):
    """The text of a .def file, each row on one line."""
    return re.sub(r",\n +", ", ", re.sub(r'"\n +"', "", read(ROOT / file)))


def name_of(path):
    return str(path.relative_to(ROOT))


def documents():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {page: read(page) for page in pages if page.exists()}


def code_lines(text):
    """The text that is set as code: between backticks, fenced, or indented by four."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line
        else:
            yield from CODE.findall(line)


def defines(path, name):
    """True if the file defines the name: a function, table, struct, macro or label."""
    text = read(path)
    word = re.escape(name)
    if path.suffix == ".asm":
        return re.search(rf"^{word}:", text, re.M)
    if path.suffix in (".py", ".t"):
        return re.search(rf"^\s*(?:def|class) {word}\b|^{word} *=", text, re.M)
    if path.suffix == ".sh":
        return re.search(rf"^{word}\(\)", text, re.M)
    return re.search(rf"^(?:[A-Za-z_][^\n;#]*[\s*])?{word}(?:\(|\[| =|;)|^(?:struct|enum|union) {word} {{"
                     rf"|^}} {word}\[|^#define {word}\b", text, re.M)


def check_references(tap, pages):
    faults = []
    for page, text in pages.items():
        for file, name in REFERENCE.findall(text):
            path = ROOT / file
            if not path.is_file():
                faults.append(f"{name_of(page)}: no file {file}")
            elif not defines(path, name):
                faults.append(f"{name_of(page)}: {file} has no {name}")
    tap.none("each file:function exists", faults)


def check_quotes(tap, pages):
    """Code that a page shows "From `file`" is in that file."""
    faults = [f"{name_of(page)}: {file} has no longer: {code.splitlines()[0]}" for page, text in pages.items()
              for code, file in re.findall(r"^```c\n(.*?)```\nFrom `([^`]+)`", text, re.M | re.S)
              if code.rstrip() not in read(ROOT / file)]
    tap.none("code that is quoted from a file is in it", faults)


def check_paths(tap, pages):
    faults = []
    for page, text in pages.items():
        for path in PATH.findall(re.sub(r"\]\([^)]*\)", "", text)):
            path = path.split(":")[0]
            if re.search(r"_X\b", path):
                continue    # a pattern for names
            if not any((ROOT / (path + suffix)).exists() for suffix in ("", ".c")):
                faults.append(f"{name_of(page)}: no {path}")
    tap.none("each path exists", faults)


def check_targets(tap, pages, title="each make target exists"):
    makefiles = "\n".join(read(path) for path in (ROOT / "Makefile", *sorted((ROOT / "mk").glob("*.mk"))))
    faults = [f"{name_of(page)}: make has no target {target}" for page, text in pages.items()
              for line in code_lines(text) for target in TARGET.findall(line)
              if not re.search(rf"^(?:[\w -]* )?{target}(?: [\w -]*)?:", makefiles, re.M)]
    tap.none(title, faults)


def comments():
    """(file, its comments) of the sources in C and assembly."""
    for folder in SOURCE_DIRS[:-1]:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".def"):
                yield path, "\n".join(re.findall(r"/\*.*?\*/", read(path), re.S))
            elif path.suffix in (".asm", ".inc"):
                yield path, "\n".join(re.findall(r";.*", read(path)))


def code_words():
    """Every word of the sources outside comments: who is called in a comment must be among them."""
    words = set()
    for folder in SOURCE_DIRS[:-1]:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".c", ".h", ".def"):
                words |= set(re.findall(r"\b[a-z_]\w*\b", re.sub(r"/\*.*?\*/", " ", read(path), flags=re.S)))
            elif path.suffix in (".asm", ".inc", ".ld"):
                words |= set(re.findall(r"\b[a-z_]\w*\b", re.sub(r";.*", " ", read(path))))
    return words


def check_comments(tap):
    words = code_words()
    texts = {path: re.sub(r"\n[ \t]*\*?[ \t]*", " ", text) for path, text in comments()}
    faults = [f"{name_of(path)}: no {name}()" for path, text in texts.items()
              for name in re.findall(r"\b([a-z_]\w*)\(\)", text) if name not in words]
    tap.none("each function() that a comment names exists", faults)
    faults = [f"{name_of(path)}: no {found}" for path, text in texts.items() for found in PATH.findall(text)
              if not any((ROOT / (found + suffix)).exists() for suffix in ("", *SOURCES))]
    tap.none("each path that a comment names exists", faults)
    faults = [f"{name_of(path)}: {file} has no {name}" for path, text in texts.items()
              for file, name in re.findall(r"([\w./-]+/[\w-]+\.(?:c|h|asm|py|sh|t)):(\w+)", text)
              if not (ROOT / file).is_file() or not defines(ROOT / file, name)]
    tap.none("each file:function that a comment names exists", faults)
    check_targets(tap, {path: "\n".join(f"`{code}`" for code in CODE.findall(text)) for path, text in texts.items()},
                  "each make target that a comment names exists")
    faults = [f"{name_of(path)}: cites {word}, which is not in the repository" for path, text in texts.items()
              for word in re.findall(r"\b[A-Z]{5,}(?=: \"|\.md\b)", text)
              if not (ROOT / "docs" / f"{word}.md").exists()]
    tap.none("each page that a comment cites exists", faults)


def slug(heading):
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", heading).strip())


def check_links(tap, pages):
    faults = []
    for page, text in pages.items():
        for pair in LINK.findall(text):
            link = pair[0] or pair[1]
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            if not target.exists():
                faults.append(f"{name_of(page)}: {link} leads nowhere")
            elif anchor and anchor not in {slug(line) for line in re.findall(r"^#+ (.*)$", read(target), re.M)}:
                faults.append(f"{name_of(page)}: {link}: no such heading")
    tap.none("each relative link resolves", faults)


def check_map(tap, pages):
    """Every page is on the map of reading order."""
    reading = read(ROOT / "docs" / "README.md")
    faults = [f"docs/README.md does not link {name_of(page)}" for page in pages
              if page.parent != ROOT and page.name != "README.md"
              and str(page.relative_to(ROOT / "docs")) not in reading]
    tap.none("docs/README.md leads to every page", faults)



NUMBERS = dict(zip(("four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), range(4, 13)))


def check_numbers(tap):
    """The pages that say how many parts they have, against their headings."""
    flows, concepts = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("FLOWS.md", "CONCEPTS.md"))
    said = re.findall(r"(\w+) (?:sequences of events|stories, a page each)", flows + concepts)
    parts = [len(re.findall(r"^## \d+\. ", text, re.M)) for text in (flows, concepts)]
    faults = [f"{word} are {part}" for word, part in zip(said, parts) if NUMBERS.get(word.lower()) != part]
    for text in concepts.split("## Ten questions")[1].split("<summary>Answers"):
        if (found := len(re.findall(r"^\d+\. ", text, re.M))) != 10:
            faults.append(f"ten questions, or answers, are {found}")
    if len(said) != 2:
        faults.append("a page says no longer how many parts it has")
    tap.none("FLOWS and CONCEPTS have as many parts as they say", faults)


def check_folders(tap):
    """The list at README's end has each folder of the tree."""
    listed = set(re.findall(r"^    (\w+)/ ", read(ROOT / "README.md"), re.M))
    tree = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "build"}
    tap.none("README.md's list has each folder, and no other", sorted(listed ^ tree))


def option_rows():
    """(name, kind, default as a word, values) of each option, choices with their words."""
    choices = {name: re.findall(r'V\((\w+), "([^"]+)"\)', body)
               for name, body in re.findall(r"^#define (\w+)_CHOICES\(V\)((?:.*\\\n)*.*)",
                                            read(ROOT / "kernel" / "choices.h"), re.M)}
    for name, kind, initial, values in OPTION_ROW.findall(read_rows("kernel/options.def")):
        if kind == "CHOICE":
            words = choices[values.removeprefix("CHOICES_OF(").removesuffix(")")]
            yield name, dict(words)[initial], "|".join(word for _, word in words)
        else:
            yield name, initial, values.strip('"')


def check_options(tap, pages):
    rows = list(option_rows())
    page = read(ROOT / "docs" / "OPTIONS.md")
    faults = [] if rows else ["no row found in kernel/options.def"]
    table = {}
    for name, values, default in re.findall(r"^\| \[([\w-]+)\]\(#[\w-]+\) \| `([^`]+)` \| `([^`]+)` \|", page, re.M):
        table[name] = (values.replace("\\|", "|"), default)
    for name, initial, values in rows:
        wanted = (values, initial)
        if name not in table:
            faults.append(f"docs/OPTIONS.md has no row for {name}")
        elif table[name] != wanted:
            faults.append(f"docs/OPTIONS.md says {table[name]} of {name}, kernel/options.def {wanted}")
        if f"\n## {name}\n" not in page:
            faults.append(f"docs/OPTIONS.md has no section {name}")
    known = {name for name, *_ in rows}
    faults += [f"docs/OPTIONS.md: {name} is no option" for name in table if name not in known]
    tap.none("docs/OPTIONS.md has each option with its values and default", faults)

    texts = {name_of(path): text for path, text in pages.items()}
    texts.update((f"tools/{file}", read(ROOT / "tools" / file))
                 for file in ("nestor-run", "run-stack", "nestorlib/cli.py"))
    faults = [f"{name}: Nestor has no option {word}" for name, text in texts.items()
              for words in NESTOR_WORDS.findall(text) for word in re.findall(r"[\w-]+", re.sub(r"=\S*", "", words))
              if word not in known and word != "OPTIONS"]
    tap.none("each example for --nestor uses options that exist", faults)


def check_features(tap):
    """Who tests a feature: scenarios and host tests that exist."""
    scenarios = {name for path in (ROOT / "guests" / "scenarios").glob("*.c")
                 for name in re.findall(r'^ *\{"([a-z0-9-]+)",', read(path), re.M)}
    hosts = {path.stem for path in (ROOT / "tests" / "host").glob("test_*.c")}
    page = read(ROOT / "docs" / "FEATURES.md")
    named = set(re.findall(r"`([a-z][a-z0-9]*(?:-[a-z0-9]+)+|test_\w+)`", page)) if scenarios else {"no scenario found"}
    tap.none("docs/FEATURES.md names scenarios and host tests that exist", sorted(named - scenarios - hosts))


def check_tool_options(tap, pages):
    """--words behind the name of a tool of ours."""
    texts = {"nestor-run": read(ROOT / "tools" / "nestorlib" / "cli.py")}
    texts["run-stack"] = texts["nestor-run"] + read(ROOT / "tools" / "run-stack")
    faults = []
    for page, text in pages.items():
        for line in re.sub(r"\\\n", " ", text).splitlines():
            for tool, rest in re.findall(r"tools/(nestor-run|run-stack)([^`]*)", line):
                faults += [f"{name_of(page)}: {tool} has no option {option}"
                           for option in re.findall(r" (--[\w-]+)", rest)
                           if f'"{option}"' not in texts[tool]]
    tap.none("each option of nestor-run and run-stack exists", faults)


def check_emulators(tap, pages):
    sys.path.insert(0, str(ROOT / "tools"))
    from nestorlib import emulators     # pylint: disable=import-outside-toplevel  (of this tree)
    text = pages[ROOT / "docs" / "TESTING.md"]
    rows = [("Bochs", *(heading for _, heading in emulators.FACTS))]
    rows += [(version, *(getattr(known, name) for name, _ in emulators.FACTS))
             for version, known in emulators.KNOWN.items()]
    tap.none("docs/TESTING.md has the table of emulators",
             [line for line in (f"| {' | '.join(row)} |" for row in rows) if line not in text])


def source_text(path):
    """The file with comments and strings that go over lines joined."""
    text = read(path).replace('\\"', '"')
    return re.sub(r"\n[ \t]*(?:\*(?!/)|//|;|#)?[ \t]*", " ", text)


def citations():
    """{(volume, number): {title: first file}}; number or title may be empty."""
    found = collections.defaultdict(dict)
    for folder in SOURCE_DIRS[:-1]:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in SOURCES or path == pathlib.Path(__file__).resolve():
                continue
            for match in CITATION.finditer(source_text(path)):
                for part in PART.finditer(match.group(2)):
                    number, title = part.group(1) or "", part.group(2) or ""
                    if number or title:
                        found[match.group(1), number.removeprefix("appendix ") or NO_NUMBER].setdefault(title,
                                                                                                        name_of(path))
    return found


def sdm_rows():
    rows = collections.defaultdict(set)
    for volume, number, title in SDM_ROW.findall(read(SDM_PAGE)):
        rows[volume, number].add(title)
    return rows


def sdm_key(place):
    volume, number = place
    return volume, [(0, int(part), "") if part.isdigit() else (1, 0, part)
                    for part in number.removeprefix("chapter ").split(".")]


def check_sdm(tap):
    rows, found = sdm_rows(), citations()
    faults = [] if rows and found else ["nothing found"]
    for place, titles in sorted(found.items()):
        for title, file in titles.items():
            known = rows.get(place)
            if not known or (title and title not in known):
                faults.append(f"{file}: SDM {' '.join(place)} \"{title}\": docs/SDM.md has {known or 'no such row'}")
    tap.none("docs/SDM.md has each section that the sources cite, under the same title (else: docs.t --write-sdm)",
             faults)
    tap.none("docs/SDM.md has no section that nothing cites",
             [f"{place}" for place in sorted(rows) if place not in found])
    tap.none("a section has one title", [f"SDM {' '.join(place)}: {sorted(titles)}"
                                         for place, titles in sorted(rows.items())
                                         if len(titles) > 1 and place[1] not in (NO_NUMBER, *MANY_TITLES)])


def write_sdm():
    """Titles come from the citations; of a section cited by its number alone, from the row that was there."""
    rows, found = sdm_rows(), citations()
    lines = []
    for place in sorted(found, key=sdm_key):
        for title in sorted(filter(None, found[place])) or sorted(rows.get(place, ())) or ["(its title)"]:
            lines.append(f"| {place[0]} | {place[1]} | {title} |")
    head, border, _ = read(SDM_PAGE).rpartition("|---|---|---|\n")
    SDM_PAGE.write_text(head + border + "\n".join(lines) + "\n", encoding="utf-8")


def check_msr_policy(tap):
    """docs/BITMAP.md lists what L0 keeps, with the reasons of vmx/msr_policy.def in their order."""
    page = read(ROOT / "docs" / "BITMAP.md")
    reasons = re.findall(r'^MSR_POLICY\(.*"([^"]+)"\)', read_rows("vmx/msr_policy.def"), re.M)
    listed = re.findall(r"^\| \w+H[^|]*\|[^|]*\|[^|]*\|[^|]*\| ([^|]+) \|$", page, re.M)
    tap.none("docs/BITMAP.md lists the MSRs that L0 keeps",
             [] if listed == reasons else sorted(set(reasons) ^ set(listed)) or ["another order"])


def check_manual_pages(tap):
    """Each option of nestor-run and each command of nestorctl is in its manual page, and nothing else is."""
    def words(page, pattern):
        return set(re.findall(pattern, read(ROOT / "docs" / "man" / page).replace("\\-", "-"), re.M))

    cli = read(ROOT / "tools" / "nestorlib" / "cli.py")
    options = set(re.findall(r'^    add\("(--[\w-]+)"', cli, re.M)) | {"--help"}
    described = words("nestor-run.1", r"^\.TP\n\.B (?:-h, )?(--[\w-]+)")
    commands = set(re.findall(r'^    \{"(\w+)", command_', read(ROOT / "tools" / "nestorctl" / "main.c"), re.M))
    told = words("nestorctl.1", r"^\.TP\n\.BI? (\w+)")
    tap.none("the manual pages have each option and command", sorted(options ^ described) + sorted(commands ^ told))


def main():
    if sys.argv[1:] == ["--write-sdm"]:
        write_sdm()
        return 0
    tap = Tap()
    pages = documents()
    check_references(tap, pages)
    check_quotes(tap, pages)
    check_paths(tap, pages)
    check_manual_pages(tap)
    check_targets(tap, pages)
    check_comments(tap)
    check_links(tap, pages)
    check_folders(tap)
    check_numbers(tap)
    check_map(tap, pages)
    check_options(tap, pages)
    check_tool_options(tap, pages)
    check_emulators(tap, pages)
    check_features(tap)
    check_msr_policy(tap)
    check_sdm(tap)
    print(f"1..{tap.count}")
    return 1 if tap.failed else 0


sys.exit(main())
