"""A steerable OAuth provider on loopback that is its own oracle. See `docs` in each module; start at `server`."""

from tests.simulator.control import Steering
from tests.simulator.oracle import Oracle
from tests.simulator.server import Simulator, SimulatorProcess

__all__ = ["Oracle", "Simulator", "SimulatorProcess", "Steering"]
