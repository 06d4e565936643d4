"""The parts of tools/nestor-run: command line, boot image, machines, run loop."""
