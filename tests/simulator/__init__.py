"""A steerable OAuth provider on loopback that is its own oracle.

`server` runs it, `control` steers it, `config` and `faults` say what can be steered, `oracle` says what is true,
`client` plays the browser; `grants` is the state machine of the rotation modes, pure and on its own.
"""

from tests.simulator.control import Steering
from tests.simulator.oracle import Oracle
from tests.simulator.server import Simulator, SimulatorProcess

__all__ = ["Oracle", "Simulator", "SimulatorProcess", "Steering"]
