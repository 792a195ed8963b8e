"""Check: what each consumer would compute from an adapter's file, compared with the intended update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eckart.adapter.adapter import Adapter, Module
from eckart.adapter.formats import load_adapter
from eckart.adapter.rounding import relative
from eckart.arguments import argument
from eckart.checkpoint import Checkpoint
from eckart.checkpoint.model import open_model
from eckart.errors import UsageError
from eckart.serving.base_fit import base_problems
from eckart.serving.consumer import Consumer, Treatment
from eckart.serving.consumers import ConsumerNames, consumers_named
from eckart.serving.missing_modules import missing_modules
from eckart.serving.problems import Problem, Severity, mixes_up_alphas, problems_of, type_of
from eckart.serving.scales import computed_scales
from eckart.serving.treatment import treatment_of
from eckart.text import count


@dataclass(frozen=True)
class Verdict:
    """How one consumer would load an adapter.

    Parameters
    ----------
    consumer : Consumer
        The program.
    problems : tuple of Problem
        Empty if the consumer computes the intended update.
    error : float or None
        ||intended - computed||_F / ||intended||_F over all modules; None if the consumer refuses to load
        the adapter, or if what it computes is not known.
    options : str
        The option with which the consumer must be started, or ``""``.
    """

    consumer: Consumer
    problems: tuple[Problem, ...] = field(repr=False)
    error: float | None
    options: str

    @property
    def is_refused(self) -> bool:
        """Whether the consumer would not load the adapter at all."""
        return any(p.severity is Severity.REFUSED for p in self.problems)

    @property
    def holds(self) -> bool:
        """Whether the consumer computes the intended update."""
        return not self.problems

    @property
    def outcome(self) -> str:
        """``"error 0.885"``, ``"does not load"`` or ``"error not known"``."""
        if self.is_refused:
            return "does not load"
        return "error not known" if self.error is None else f"error {self.error:.3g}"


@dataclass(frozen=True, repr=False)
class CheckResult:
    """How every consumer would load an adapter, and how the adapter fits its base.

    Parameters
    ----------
    verdicts : tuple of Verdict
        One for each consumer, in the order given.
    base_problems : tuple of Problem
        Where the adapter does not fit the base; empty without a base.
    """

    verdicts: tuple[Verdict, ...]
    base_problems: tuple[Problem, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every consumer computes the intended update, and the adapter fits the base."""
        return all(v.holds for v in self.verdicts) and not self.base_problems

    @property
    def rows(self) -> list[tuple[str, bool, float | None, str]]:
        """A table with a row for each verdict: the consumer's title, `holds`, `error`, `options`."""
        return [(v.consumer.title, v.holds, v.error, v.options) for v in self.verdicts]

    def __repr__(self) -> str:
        parts = [f"{v.consumer.title}: {'correct' if v.holds else v.outcome}" for v in self.verdicts]
        if self.base_problems:
            parts.append(f"base: {count(self.base_problems, 'problem')}")
        return f"CheckResult({', '.join(parts)})"


def check(
    adapter: Adapter | str | Path,
    consumers: ConsumerNames = (),
    base: Checkpoint | str | Path | None = None,
) -> CheckResult:
    """Predict how programs would load an adapter, from its file and each program's rules.

    Parameters
    ----------
    adapter : Adapter, str or Path
        An adapter of any format. The file's own configuration and alphas are checked.
    consumers : str or sequence of str
        Names of programs, e.g. ``"vllm,llama.cpp"`` or ``["vllm", "llama.cpp"]``; see `CONSUMERS`.
    base : Checkpoint, str or Path, optional
        The base model. If given, the adapter's names, shapes and vocabulary are compared with it.

    Returns
    -------
    CheckResult
        ``result.holds`` tells whether there are no problems; each problem comes with a fix.

    Raises
    ------
    UsageError
        If there is neither a consumer nor a base, or a consumer is not known.
    AdapterError, CheckpointError
        If a file cannot be read.

    Notes
    -----
    The intended update is the one that the adapter's own format defines: PEFT's for a PEFT folder. Norms are
    computed from the factors, in 2(m + n)r^2 flops for each module. The rules come from the programs'
    sources, as cited in `CONSUMERS`; the programs themselves are not run.

    Examples
    --------
    ``eckart.check("adapter", "vllm,llama.cpp").holds``
    """
    programs = consumers_named(consumers)
    if not programs and base is None:
        raise UsageError(
            "check",
            f"expected {argument('consumers')} or {argument('base')}",
            f"Use for example {argument('consumers', 'vllm,llama.cpp')}",
        )
    loaded = adapter if isinstance(adapter, Adapter) else load_adapter(adapter)
    energies = {m.name: _energy(m) for m in loaded}
    loaded.release()
    verdicts = tuple(_verdict(loaded, c, energies) for c in programs)
    if base is None:
        return CheckResult(verdicts)
    model = base if isinstance(base, Checkpoint) else open_model(base)
    return CheckResult(verdicts, tuple(base_problems(loaded, model)))


def _verdict(adapter: Adapter, consumer: Consumer, energies: Mapping[str, float]) -> Verdict:
    problems = tuple(problems_of(adapter, consumer))
    is_refused = any(p.severity is Severity.REFUSED for p in problems)
    if is_refused or mixes_up_alphas(adapter, consumer):
        return Verdict(consumer, problems, None, "")
    dropped = _dropped_modules(adapter, consumer)
    scales = computed_scales(adapter, consumer)
    missed = 0.0
    for m in adapter:
        ratio = 0.0 if m.name in dropped else scales[m.name] / m.scale
        missed += energies[m.name] * (ratio - 1.0) ** 2
    rank = max((m.rank for m in adapter), default=0)
    return Verdict(consumer, problems, relative(missed, sum(energies.values())), consumer.start_option(rank))


def _energy(module: Module) -> float:
    """Return ||B A||_F^2, as the trace of (B^T B)(A A^T)."""
    left, right = module.product()
    return max(float(((left.T @ left) * (right @ right.T)).sum()), 0.0)


def _dropped_modules(adapter: Adapter, consumer: Consumer) -> set[str]:
    """Return the modules that a consumer silently leaves out."""
    dropped = {m.name for m in adapter if treatment_of(m, consumer) is Treatment.DROPS}
    if consumer.every_layer:
        incomplete = {type_of(name) for name in missing_modules(adapter.modules, [consumer], shapes={})}
        dropped |= {name for name in adapter.modules if type_of(name) in incomplete}
    return dropped
