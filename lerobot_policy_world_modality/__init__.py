"""LeRobot imports every installed distribution whose name begins with `lerobot_policy_`; importing registers the policy types."""

import wmvla.plugin.configuration_world_policy  # noqa: F401
