"""Write skill/research/schemas/: the JSON Schemas of the research files, from the columns that the parser reads.

Run it from the repository's root: `PYTHONPATH=. python tools/research_schemas.py`.
"""

from __future__ import annotations

from pathlib import Path

from skill.research.json_schema import schemas

FOLDER = Path(__file__).resolve().parents[1] / "skill" / "research" / "schemas"

if __name__ == "__main__":
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
