"""What a person sees who presses Ctrl-C: that nothing is lost and how to go on, not the errors of the jobs it ended."""

import logging
import signal


class Interrupt(logging.Filter):
    """Notices Ctrl-C, and keeps the errors that follow from it off the screen."""

    def __init__(self, logger: logging.Logger):
        super().__init__()
        self.came = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as behind `nohup`
            signal.signal(signal.SIGINT, self._notice)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self)

    def _notice(self, number: int, frame) -> None:
        self.came = True
        signal.default_int_handler(number, frame)

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.came or record.levelno < logging.ERROR

    def message(self) -> str:
        """The last words of a workflow that was interrupted."""
        return (
            "Stopped. What is finished stays; training, rendering and prompt writing have saved where they were.\n"
            "Give the same command again to go on from there."
        )
