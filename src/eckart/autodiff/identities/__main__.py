"""``python -m eckart.autodiff.identities``: verify the table of formulas and print it."""

from __future__ import annotations

import re
import sys

from . import BOUND, ROUNDING, identities, verify

SIGNS = {  # LaTeX and its form on a terminal; longer commands come first
    r"^{+\top}": "⁺ᵀ",
    r"^{-\top}": "⁻ᵀ",
    r"^\top": "ᵀ",
    "^{-1}": "⁻¹",
    "^{-2}": "⁻²",
    "^{1/2}": "^½",
    "^+": "⁺",
    "^2": "²",
    "^3": "³",
    r"\|": "‖",
    r"\odot": "∘",
    r"\otimes": "⊗",
    r"\sigma": "\u03c3",
    r"\delta": "δ",
    r"\lambda": "λ",
    r"\langle ": "⟨",
    r" \rangle": "⟩",
    r"\ln\sum": "ln Σ",
    r"\ln\det": "ln det",
    r"\det": "det",
    "_{ij}": "_ij",
    "e^{X_ij}": "exp(X_ij)",
    r"\partial": "∂",
}


def plain(latex: str) -> str:
    """Return a formula in a form for terminals: tr(AX) for ``\\operatorname{tr}(AX)``."""
    text = re.sub(r"\\(?:operatorname|text)\{([^}]*)\}", r"\1", latex)
    for sign, shown in SIGNS.items():
        text = text.replace(sign, shown)
    return text


def main() -> int:
    """Print the table with its errors; return 1 if an error exceeds its bound, otherwise 0."""
    rows = [verify(row) for row in identities()]
    lines = [
        "Largest error of each closed form, relative to its largest entry, against two other methods",
        "",
    ]
    lines.append(f"{'#':>2}  {'name':33} {'autodiff':>9} {'differences':>12}    formula")
    for row in rows:
        number, name, latex, given, *_ = row.identity
        formula = plain(latex) + (f"   ({given})" if given else "")
        verdict = "  " if row.holds else "NO"
        lines.append(f"{number:2}  {name:33} {row.autodiff:9.1e} {row.differences:12.1e} {verdict} {formula}")
    failed = sum(not row.holds for row in rows)
    first, second = max(row.autodiff for row in rows), max(row.differences for row in rows)
    lines += [
        "",
        f"{len(rows)} identities, {failed or 'none'} wrong; worst errors {first:.1e} (bound "
        f"{ROUNDING:.0e}) and {second:.1e} (bound {BOUND:.0e})",
    ]
    page, encoding = "\n".join(lines) + "\n", sys.stdout.encoding or "utf-8"
    sys.stdout.write(page.encode(encoding, "replace").decode(encoding))
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
