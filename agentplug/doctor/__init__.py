"""`doctor()`: which barriers this machine has, each proved by trying it in throwaway workers (host).

`trials` says what is tried on each barrier, with plugins of the zoo and of `probe`; `looks` is what the host sees
of a worker for itself; `examination` does both on a stage of the battery's, on Linux; `diagnosis` holds and shows
what was found, `shown` prints it; `entry` has `doctor()` itself, for any system.
"""

from agentplug.doctor.diagnosis import Diagnosis
from agentplug.doctor.entry import doctor

__all__ = ["Diagnosis", "doctor"]
