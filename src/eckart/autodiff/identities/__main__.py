"""``python -m eckart.autodiff.identities``: verify the table and print it."""

from __future__ import annotations

import sys

from . import BOUND, identities, verify


def main() -> int:
    """Print the table with its errors; return 1 if one is above `BOUND`."""
    rows = [verify(row) for row in identities()]
    out = [f"{'#':>2}  {'name':34} {'autodiff':>9} {'differences':>11}  formula"]
    for r in rows:
        condition = f"   ({r.identity.conditions})" if r.identity.conditions else ""
        out.append(
            f"{r.identity.number:2}  {r.identity.name:34} {r.autodiff:9.1e} {r.differences:11.1e}  "
            f"{r.identity.latex}{condition}"
        )
    worst = max(max(r.autodiff, r.differences) for r in rows)
    out.append(f"{len(rows)} identities, worst relative error {worst:.1e}, bound {BOUND:.0e}")
    sys.stdout.write("\n".join(out) + "\n")
    return int(worst > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
