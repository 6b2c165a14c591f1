"""At home in LeRobot: weights and checkpoints both ways, and this course's VQ-BeT as a LeRobot policy.

Importing this package registers the policy and its processor step. LeRobot's commands import it by themselves where the
distribution `lerobot_policy_vqbet_course` of `plugins/` is installed, elsewhere with
`--policy.discover_packages_path=vqbet_course.lerobot_policy`. It loads lerobot, which takes its seconds: nothing else in
the course imports it unasked.
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
from vqbet_course.lerobot_policy.processor_vqbet_course import ClipAction

__all__ = [
    "ClipAction",
    "VQBeTCourseConfig",
    "export_run",
    "from_lerobot",
    "import_checkpoint",
    "to_lerobot",
    "to_lerobot_model",
]
