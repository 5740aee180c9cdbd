"""The machine that measures: what it is, its CPUs, and who else uses them."""

import os
import pathlib
import platform
import time

_CPU = pathlib.Path("/sys/devices/system/cpu")
_STAT = pathlib.Path("/proc/stat")
# Kernels count the time of a CPU in ticks; below so many seconds they are too
# few to tell who had it.
SHORTEST = 0.2


def describe():
    """What of a machine decides how fast it is, as a dictionary of text."""
    return {"cpu": _cpu_model(), "cores": str(os.cpu_count())}


def _cpu_model():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def choose_cpus(count):
    """The numbers of CPUs to run on, of different cores as far as they go.

    Returns:
        A sorted list; None where the system cannot keep a process on CPUs.

    Raises:
        ValueError: if the process may not use so many.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        return None
    allowed = affinity(0)
    if count > len(allowed):
        raise ValueError(
            f"`threads` must be at most {len(allowed)}, the number of CPUs "
            f"that this process may use. Received: {count}"
        )
    # Interrupts are served by the first CPUs, mostly.
    by_core = sorted(allowed, key=lambda cpu: (_place_in_core(cpu), -cpu))
    return sorted(by_core[:count])


def _place_in_core(cpu):
    """0 for the first hardware thread of a core, and so on."""
    path = _CPU / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    try:
        text = path.read_text()
    except OSError:
        return 0
    siblings = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        siblings.extend(range(int(first), int(last or first) + 1))
    return siblings.index(cpu)


class Bystanders:
    """How much of some CPUs goes to other programs, or other machines.

    Args:
        cpus: their numbers, None for all.
    """

    def __init__(self, cpus):
        self._cpus = cpus
        self.start()

    def start(self):
        """Begins to count."""
        self._started = time.monotonic()
        self._before = self._now()

    def share(self):
        """Their share of the CPUs' time since `start`, in [0, 1].

        0 where the system does not say, or too little time has gone by.
        """
        found, before = self._now(), self._before
        if found is None or before is None:
            return 0.0
        passed, idle, own = (b - a for a, b in zip(before, found, strict=True))
        if time.monotonic() - self._started < SHORTEST or not passed:
            return 0.0
        return min(max((passed - idle - own) / passed, 0.0), 1.0)

    def _now(self):
        """Seconds of the CPUs in all, idle ones, those of this process."""
        try:
            lines = _STAT.read_text().splitlines()
        except OSError:
            return None
        names = (
            {"cpu"}
            if self._cpus is None
            else {f"cpu{number}" for number in self._cpus}
        )
        tick = os.sysconf("SC_CLK_TCK")
        passed = idle = 0
        for line in lines:
            name, *values = line.split()
            if name in names:
                # user nice system idle iowait irq softirq steal
                ticks = [int(value) for value in values[:8]]
                passed += sum(ticks) / tick
                idle += sum(ticks[3:5]) / tick
        return passed, idle, time.process_time()
