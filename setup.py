"""Builds the package from settings.ini, the one true configuration: edit that file, not this one."""

import shutil
from configparser import ConfigParser
from pathlib import Path
from shlex import split

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
package = cfg["lib_path"]

STAGES = {"1": "1 - Planning", "2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}
NOTEBOOKS = ("experiments", "benchmarks", "tutorials", "index.ipynb", "start.ipynb")  # `wmvla run` finds, `wmvla lab` opens them


class BuildWithNotebooks(build_py):
    """Copies the notebooks that people run into the package; a checkout (an editable install) keeps its one copy in nbs/."""

    def run(self):
        super().run()
        if self.editable_mode: return
        target = Path(self.build_lib, package, "notebooks")
        shutil.rmtree(target, ignore_errors=True)  # one that an earlier build left may hold a notebook that is gone
        target.mkdir(parents=True)
        for name in NOTEBOOKS:
            source = here / cfg["nbs_path"] / name
            if source.is_dir(): shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(".*", "_*"))
            else: shutil.copy(source, target / name)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license={"apache2": "Apache-2.0"}[cfg["license"]],
    url=cfg["git_url"],
    classifiers=[
        f"Development Status :: {STAGES[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Programming Language :: Python :: 3 :: Only",
    ],
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={f"{package}.{part}": ["static/*"] for part in ("view", "dashboards")},  # scripts of the browser
    cmdclass={"build_py": BuildWithNotebooks},
    zip_safe=False,
    python_requires=f">={cfg['min_python']}",
    install_requires=split(cfg["requirements"]),
    extras_require={name: split(cfg[f"{name}_requirements"]) for name in ("dev", "rerun")},
    entry_points={"console_scripts": split(cfg["console_scripts"]), "nbdev": [f"{package}={package}._modidx:d"]},
)
