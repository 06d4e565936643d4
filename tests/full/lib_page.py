"""Pages that Nestor's tools make, as a browser shows them."""
import re
import shutil
import subprocess


def browser_for(tap, text):
    """The page's text refers to nothing outside. Headless Chromium; None, and said, where there is none."""
    tap.ok(not re.search(r"(?:src|href)=|https?:|@import|url\(", text), "the page refers to nothing outside itself")
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        tap.ok(True, "the page draws # SKIP no Chromium here")
    return browser


def drawn(browser, page):
    """The document after its script has run."""
    done = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "file://" + page],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          timeout=120, check=False)
    return done.stdout
