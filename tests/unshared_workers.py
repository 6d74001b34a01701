"""The command line, where workers may each have rooms of their own: what their supervisor does needs no engine."""

from trio_vrchat import __main__, _supervisor

_supervisor.check_for_workers = lambda config, workers: None

if __name__ == "__main__":
    __main__.main()
