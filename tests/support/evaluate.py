"""An independent evaluator of formulas: it computes both sides of every sign and reports where they differ.

It does not use the code that produced the steps. `meanings` gives letters their values from the results; an
unknown letter gets its value from the first formula that defines it.
"""

from __future__ import annotations

from typing import Any

import mpmath
import sympy

from eckart.explain.decomposition import decompose
from eckart.explain.formula import Frac, Grid, Mark, Norm, Num, Op, Paren, Power, Root, Row, Sym, plain
from eckart.explain.steps import Check, Explanation, Say, Show

DIGITS = 60
EXACT = mpmath.mpf(10) ** -40  # unequal numbers with so few roots and digits differ by more than this
ROUNDED = mpmath.mpf("5.0001e-5")  # four decimals, or five digits before a power of ten
PERCENT = mpmath.mpf("5.0001e-4")  # one decimal of a percentage
SAMPLE = mpmath.mpf(7) / 3  # the value of lambda: polynomials that agree here to 40 digits are equal


def untrue(explanation: Explanation, W: Any, given: Any = None) -> tuple[list[str], int]:
    """Return the statements of an explanation that do not hold, and the number of comparisons made."""
    with mpmath.workdps(DIGITS):
        reader = Reader(meanings(explanation, W, given))
        wrong = []
        for step in explanation.steps:
            reader.forget()
            reader.rows = matrix(W) if step.title == "title.elimination" else None
            if step.title == "title.given":
                reader.known |= reader.known["given"]
            for part in step.parts:
                if isinstance(part, Say) and part.text.key == "right.solve":
                    reader.forget()
                if isinstance(part, (Show, Check)):
                    wrong += reader.differences(part.formula)
        return wrong, reader.compared


def meanings(explanation: Explanation, W: Any, given: Any = None) -> dict[str, Any]:
    """Return the values of the letters in an explanation."""
    results, topic = explanation.results, explanation.topic
    svd = decompose(results.centred if topic == "pca" else W)
    U, S, V, (m, n) = svd.U, svd.S, svd.V, W.shape
    inverted = sympy.zeros(n, m)
    for i, value in enumerate(svd.sigma):
        inverted[i, i] = 1 / value
    exact = {"W": W, "U": U, "Σ": S, "V": V, "Σ+": inverted}
    exact |= {f"u_{i + 1}": U[:, i] for i in range(m)} | {f"e_{i + 1}": sympy.eye(m)[:, i] for i in range(m)}
    exact |= {f"v_{i + 1}": V[:, i] for i in range(n)}
    numbers: dict[str, Any] = {"m": m, "n": n}
    numbers |= {f"σ_{i}": number(value) for i, value in enumerate(svd.sigma, 1)}
    values = results.variances if topic == "pca" else svd.eigen.values
    numbers |= {f"λ_{i}": number(value) for i, value in enumerate(values, 1)}
    match topic:
        case "pca":
            numbers["n"] = m
            exact |= {"X": W, "X_c": results.centred, "C": results.covariance, "μ": results.mean.T}
            exact["1"] = sympy.ones(m, 1)
        case "rank":
            exact |= {"C": results.C, "F": results.F}
        case "pinv":
            exact["W+"] = results.pinv
        case "lowrank" | "lora":
            r = numbers["r"] = results.rank
            exact |= {f"W_{r}": results.best, f"U_{r}": U[:, :r], f"V_{r}": V[:, :r], f"Σ_{r}": S[:r, :r]}
    if getattr(results, "scale", None) is not None:
        numbers["α"] = number(results.scale) * results.rank
        exact |= {"B": results.B, "A": results.A}
    known = {name: matrix(M) for name, M in exact.items()} | numbers
    if given is not None:
        known["given"] = {"B": matrix(given), "A": matrix(results.coefficients)}
    return known


def matrix(M: Any) -> Any:
    """Return a sympy matrix in decimals; a 1 x 1 matrix becomes a number, since formulas show either."""
    decimals = mpmath.zeros(M.rows, M.cols)
    for i in range(M.rows):
        for j in range(M.cols):
            decimals[i, j] = number(M[i, j])
    return single(decimals)


def single(value: Any) -> Any:
    one = isinstance(value, mpmath.matrix) and (value.rows, value.cols) == (1, 1)
    return value[0] if one else value


def number(value: Any) -> Any:
    """Return a sympy number in decimals."""
    return mpmath.mpf(str(sympy.N(value, DIGITS)))


class UnknownError(Exception):
    """A letter has no value, or a sign is not an arithmetic one."""


class Identity:
    """A multiple of the identity matrix, of any size."""

    def __init__(self, scale: Any = 1) -> None:
        self.scale = scale

    def __rmul__(self, number: Any) -> Identity:
        return Identity(number * self.scale)

    def __add__(self, other: Any) -> Any:
        return self.sized_as(other) + other

    def sized_as(self, other: Any) -> Any:
        return self.scale * (mpmath.eye(other.rows) if isinstance(other, mpmath.matrix) else 1)


class Reader:
    """Evaluates formulas."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known
        self.waiting: list[list[Any]] = []  # statements about an x that is defined later
        self.determinant: Any = None  # the value of the polynomial that follows
        self.rows: Any = None  # the matrix that row operations act on
        self.compared = 0

    def forget(self) -> None:
        """Forget the values of x and y."""
        self.waiting.clear()
        self.known = {name: value for name, value in self.known.items() if name[0] not in "xy"}

    def differences(self, formula: Any) -> list[str]:
        """Return the statements whose sides differ, and store the values of unknown letters."""
        tokens = flat(formula)
        if any(isinstance(t, Op) and t.text in "←↔" for t in tokens):
            self._operate(tokens)
            return []
        if self.rows is not None and isinstance(tokens[-1], Grid) and len(tokens) < 3:
            # A matrix without a left side (after ≈ if it is rounded) is the result of the row operations.
            self.compared += 1
            shown = single(self.one(tokens[-1]))
            sign = tokens[0].text if len(tokens) == 2 else "="
            return [] if near(self.rows, shown, sign) else [plain(formula)]
        statements = split(tokens, lambda t: isinstance(t, Mark) and t.text == ",")
        return [wrong for statement in statements for wrong in self._statement(statement)]

    def _operate(self, tokens: list[Any]) -> None:
        """Carry out a row operation: swap two rows, or subtract a multiple of one from another."""
        i, j, M = int(tokens[0].sub) - 1, int(tokens[-1].sub) - 1, self.rows
        for k in range(M.cols):
            if tokens[1].text == "↔":
                M[i, k], M[j, k] = M[j, k], M[i, k]
            else:
                factor = self.value(tokens[4:-2]) if len(tokens) > 5 else 1
                M[i, k] += factor * M[j, k] * (-1 if tokens[3].text == "-" else 1)

    def _statement(self, tokens: list[Any]) -> list[str]:
        sides = split(tokens, lambda t: isinstance(t, Op) and t.text in "=≈")
        signs = ["=", *(t.text for t in tokens if isinstance(t, Op) and t.text in "=≈")]
        wrong, first, unknown, vague = [], None, None, not sides[0]
        for sign, side in zip(signs, sides, strict=True):
            try:
                value = self.value(side)
            except UnknownError:
                unknown = side[0] if len(side) == 1 and isinstance(side[0], Sym) else unknown
                if Sym("x") in side and len(side) > 1:
                    self.waiting.append(tokens)
                continue
            if first is None:
                first, vague = value, vague or sign == "≈"
                continue
            self.compared += 1
            scale = largest(value) if is_product(side) else None
            if not near(first, value, sign, Mark("%") in side, scale):
                wrong.append(plain(Row(tuple(tokens))))
        if first is None:
            return wrong
        if Mark("det") in tokens:
            self.determinant = first
        elif self.determinant is not None:
            self.compared += 1
            # Each coefficient is rounded to four decimals or five digits, and multiplied by a power of 7/3.
            scale = SAMPLE**6 + self._magnitude(tokens) if vague else None
            if not near(self.determinant, first, "≈" if vague else "=", scale=scale):
                wrong.append(f"the determinant is not {plain(Row(tuple(tokens)))}")
            self.determinant = None
        if isinstance(unknown, Sym) and not unknown.sup and not vague:
            self.known[key(unknown)] = first
            if unknown == Sym("x", "1"):
                self.known["y_1"] = first  # a sentence of the explanation defines it
            if unknown.name == "x":  # x, or x_1, x_2, ...: each must satisfy the waiting statements
                # In M x = 0, x is scaled so that the error of a rounded M is at most that of its entries.
                x = first
                if isinstance(first, mpmath.matrix):
                    x = first / max(abs(v) for v in first) / len(first)
                for statement in self.waiting:
                    wrong += Reader({**self.known, "x": x})._statement(statement)
        return wrong

    def _magnitude(self, tokens: list[Any]) -> Any:
        """Return the sum of the absolute values of the terms."""
        positive = [Op("+") if t == Op("-") else t for t in tokens if t not in (Op("≈"), Mark("-"))]
        return self.value(positive)

    def value(self, tokens: list[Any]) -> Any:
        """Evaluate a sum of products."""
        whole, sign, product = None, 1, list[Any]()
        for token in [*tokens, Op("+")]:
            if not (isinstance(token, Op) and token.text in "+-"):
                product.append(token)
                continue
            if not product:
                raise UnknownError
            term = sign * self._product(product)
            whole = term if whole is None else whole + term
            sign, product = (-1 if token.text == "-" else 1), []
        return whole

    def _product(self, tokens: list[Any]) -> Any:
        value, sign, divides, is_determinant = None, 1, False, False
        for token in tokens:
            match token:
                case Mark("det"):
                    is_determinant = True
                case Mark("-"):
                    sign = -sign
                case Mark("/"):
                    divides = True
                case Mark("%"):
                    value = value / 100
                case Op("·" | "×"):
                    pass
                case Op() | Mark():
                    raise UnknownError
                case Sym("", _, "T"):
                    value = transposed(value)
                case Sym("", _, _):
                    value = value**-1
                case _:
                    factor = single(self.one(token))
                    factor = determinant(factor) if is_determinant else factor
                    value = factor if value is None else value / factor if divides else times(value, factor)
                    value, divides = single(value), False
        return sign * value

    def one(self, formula: Any) -> Any:
        """Evaluate a single item."""
        match formula:
            case Num(text):
                return mpmath.mpf(text)
            case Sym(name, sub, sup):
                return raised(self._letter(name, sub, sup), sup)
            case Frac(top, bottom):
                return self.value(flat(top)) / self.value(flat(bottom))
            case Root(inner, index):
                return mpmath.root(self.value(flat(inner)), index)
            case Power(base, exponent):
                return self.value(flat(base)) ** exponent
            case Paren(inner):
                parts = split(flat(inner), lambda t: isinstance(t, Mark) and t.text == ",")
                values = [self.value(part) for part in parts]
                return values[0] if len(values) == 1 else mpmath.matrix([[v] for v in values])
            case Norm(inner, sub):
                value = self.value(flat(inner))
                if not isinstance(value, mpmath.matrix):
                    return abs(value)
                if sub == "2":
                    return mpmath.svd_r(value, compute_uv=False)[0]
                return mpmath.sqrt(sum(x**2 for x in value))
            case Grid(rows, fence):
                value = single(mpmath.matrix([[self.value(flat(x)) for x in row] for row in rows]))
                return value if fence == "[]" else determinant(value)
        raise UnknownError

    def _letter(self, name: str, sub: str, sup: str) -> Any:
        if name in ("I", "λ") and not sub:
            return Identity() if name == "I" else SAMPLE
        for word in (f"{name}+" if sup == "+" else "", f"{name}_{sub}" if sub else name):
            if word in self.known:
                return self.known[word]
        raise UnknownError


def raised(value: Any, sup: str) -> Any:
    """Return a value with the operation of a superscript applied."""
    if sup == "T":
        return transposed(value)
    if sup == "1/2":
        return value.apply(mpmath.sqrt) if isinstance(value, mpmath.matrix) else mpmath.sqrt(value)
    return value


def transposed(value: Any) -> Any:
    return value.T if isinstance(value, mpmath.matrix) else value


def determinant(value: Any) -> Any:
    return mpmath.det(value) if isinstance(value, mpmath.matrix) else value


def largest(value: Any) -> Any:
    return max([abs(x) for x in value] if isinstance(value, mpmath.matrix) else [abs(value)], default=1) + 1


def key(letter: Sym) -> str:
    return f"{letter.name}_{letter.sub}" if letter.sub else letter.name


def times(a: Any, b: Any) -> Any:
    """Return a product; for two columns, the inner product."""
    columns = all(isinstance(x, mpmath.matrix) and x.cols == 1 and x.rows > 1 for x in (a, b))
    return (a.T * b)[0] if columns else a * b


def is_product(tokens: list[Any]) -> bool:
    """Whether rounded values are multiplied, which multiplies their errors."""
    return Op("·") in tokens and not isinstance(tokens[0], Num)


def near(a: Any, b: Any, sign: str, is_percent: bool = False, scale: Any = None) -> bool:
    """Whether two sides agree as closely as the sign between them requires."""
    a, b = (x.sized_as(y) if isinstance(x, Identity) else x for x, y in ((a, b), (b, a)))
    both = [isinstance(x, mpmath.matrix) for x in (a, b)]
    if all(both) and (a.rows, a.cols) != (b.rows, b.cols):
        return False
    a, b = (list(x) if is_matrix else [x] for x, is_matrix in zip((a, b), both, strict=True))
    a, b = (x * max(len(a), len(b)) if len(x) == 1 else x for x in (a, b))  # 0 for a matrix of zeros
    if scale is not None and sign == "≈":
        return all(abs(x - y) <= scale * ROUNDED for x, y in zip(a, b, strict=True))
    return all(abs(x - y) <= allowed(x, y, sign, is_percent) for x, y in zip(a, b, strict=True))


def allowed(x: Any, y: Any, sign: str, is_percent: bool) -> Any:
    size = max(abs(x), abs(y))
    if sign == "=":
        return EXACT * (1 + size)
    if is_percent:
        return PERCENT
    return ROUNDED if 1e-3 <= size < 1e7 or not x or not y else ROUNDED * size + mpmath.mpf("1e-20")


def flat(formula: Any) -> list[Any]:
    """Return the items of a row, with nested rows flattened."""
    return [t for item in formula.items for t in flat(item)] if isinstance(formula, Row) else [formula]


def split(tokens: list[Any], at: Any) -> list[list[Any]]:
    parts: list[list[Any]] = [[]]
    for token in tokens:
        if at(token):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
