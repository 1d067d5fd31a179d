"""What every test relies on, whatever started the run."""

import signal

# A run in the background, as some CI systems start it, ignores Ctrl-C, and so would all that the tests start and then
# interrupt: a shell cannot even trap a signal that was ignored when it began.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
