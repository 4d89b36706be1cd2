"""`doctor()`: which barriers this machine has, each proved by trying it in throwaway workers (host).

`trials` lists the attacks on each barrier, by plugins of the zoo and of `probe`; `looks` checks a worker from the
host, without asking it; `examination` does both on a stage of the battery's, on Linux; `diagnosis` is the result,
`console` prints it; `entry` has `doctor()` itself, for any system.
"""

from agentplug.doctor.diagnosis import Diagnosis
from agentplug.doctor.entry import doctor

__all__ = ["Diagnosis", "doctor"]
