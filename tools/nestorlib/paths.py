"""Where things are, relative to this tree."""
import os

TOOLS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
ROOT = os.path.dirname(TOOLS)
BUILD = os.path.join(ROOT, "build")
