"""At home in LeRobot: weights and checkpoints both ways, and this course's VQ-BeT as a LeRobot policy.

LeRobot finds the policy by `--policy.discover_packages_path=vqbet_course.lerobot_policy`; importing this
package registers it. It loads lerobot, which takes its seconds: nothing else in the course imports it unasked.
"""

from importlib.metadata import version

from vqbet_course.core.errors import BadInput

if version("lerobot").split(".")[:2] != ["0", "6"]:
    raise BadInput(
        f"lerobot {version('lerobot')} is installed, this course speaks with 0.6: "
        "install the versions of requirements.lock"
    )

from vqbet_course.lerobot_policy.bridge import from_lerobot, to_lerobot, to_lerobot_model
from vqbet_course.lerobot_policy.checkpoint import export_run, import_checkpoint
from vqbet_course.lerobot_policy.configuration_vqbet_course import VQBeTCourseConfig

__all__ = ["VQBeTCourseConfig", "export_run", "from_lerobot", "import_checkpoint", "to_lerobot", "to_lerobot_model"]
