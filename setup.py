"""The package as settings.ini describes it (nbdev reads the same file)."""

import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
readme = here / "README.md"


class BuildWithLessons(build_py):
    """Builds the package with what the course reads besides it: lessons, labs and stored results keep one place each,
    and a wheel has a copy of them (vqbet_course/core/places.py finds it)."""

    def run(self) -> None:
        """Build the package, then copy the folders into it; an editable installation uses those of the clone."""
        super().run()
        if self.editable_mode:
            return
        for name in ("nbs", "labs", "benchmarks/results"):
            target = Path(self.build_lib) / "vqbet_course" / name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(here / name, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"].split(),
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=["vqbet_course", "vqbet_course.*"]),
    package_data={"vqbet_course": ["py.typed", "data/**", "templates/**"]},
    cmdclass={"build_py": BuildWithLessons},
    install_requires=settings["requirements"].split(),
    extras_require={
        name: settings[f"{name}_requirements"].split() for name in ("dev", "arms", "umi", "ros", "tensorboard")
    },
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": ["vqbet_course=vqbet_course._modidx:d"],
    },
    zip_safe=False,
)
