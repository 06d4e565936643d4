"""Exit statuses and the one exception type of the runner."""

STATUS_USAGE = 2        # wrong arguments, or this machine lacks something
STATUS_TIMEOUT = 124    # as timeout(1)
STATUS_DIED = 125       # the emulator or Nestor ended without a status
STATUS_INTERRUPTED = 130


class RunnerError(Exception):
    """A reason not to start or not to go on, told in one line."""

    def __init__(self, message, status=STATUS_USAGE):
        super().__init__(message)
        self.status = status
