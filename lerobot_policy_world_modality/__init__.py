"""LeRobot imports every installed distribution called `lerobot_policy_...`.

Importing the configurations registers the policy types `world_policy` and `smolvla_world`, importing the processor the step that
a saved `smolvla_world` names. LIBERO is kept from asking on stdin and from fetching objects, should LeRobot import it later.
"""

import wmvla.plugin.configuration_world_policy
import wmvla.smolvla.configuration_smolvla_world
import wmvla.smolvla.processor_smolvla_world  # noqa: F401
from wmvla.sim.libero_files import prepare_libero

prepare_libero()
