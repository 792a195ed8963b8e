"""The solvers and their helpers. `eckart.linalg.decompose` chooses among the solvers.

Solvers: ``krylov``, ``gram``, ``lapack`` and ``product``. Helpers: ``tall`` and ``triangle``.
"""
