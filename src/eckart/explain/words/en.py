"""The English sentences. Formulas or integers replace the names in braces."""

SENTENCES = {
    "topic.svd": "The singular value decomposition by hand",
    "topic.rank": "Three ways to find the rank",
    "topic.lowrank": "The best low-rank approximation",
    "topic.lora": "From an update to the factors B and A of LoRA",
    "topic.pinv": "The pseudo-inverse",
    "topic.pca": "Principal components",
    "done.exact": "exact",
    "done.decimals": "to 20 decimals",
    "done.wrong": "DOES NOT HOLD",
    # shared
    "title.matrix": "The matrix",
    "matrix.shape": "Rows: {m}, columns: {n}.",
    "title.summary": "Singular values and vectors",
    "summary": "The topic svd shows how these are found.",
    "zero": "Every entry is 0: no singular value is positive, and the rank is 0.",
    "decimals.degree": (
        "The roots of a factor of degree {d} have no short form with radicals. All further steps use "
        "80 digits and show 4 decimals."
    ),
    "decimals.nested": (
        "The roots are square roots under square roots. All further steps use 80 digits and show 4 decimals."
    ),
    "decimals.summary": (
        "The eigenvalues have no short exact form. All steps use 80 digits and show 4 decimals."
    ),
    "roots.quadratic": "The quadratic formula for {factor}:",
    "title.energy": "Energy",
    "energy": (
        "The energy is the sum of the squared singular values; E(r) is the share of the first r of them."
    ),
    "energy.zero": "A zero matrix has no energy.",
    "energy.total": "The same sum, computed from the entries:",
    # svd
    "title.gram": "W transposed times W",
    "gram": (
        "This product is symmetric and has no negative eigenvalue. Its eigenvalues are the squares of"
        " the singular values."
    ),
    "title.polynomial": "Characteristic polynomial and eigenvalues",
    "polynomial": "The eigenvalues are the roots of the characteristic polynomial.",
    "title.sigma": "Singular values",
    "sigma": "The singular values are the square roots of the eigenvalues, largest first.",
    "sigma.zero": "The eigenvalue 0 has multiplicity {k} and gives no nonzero singular value.",
    "sigma.rank": "Nonzero singular values: {r}. This is the rank.",
    "sigma.trace": "Check: the eigenvalues add up to the trace, which is the sum of the squared entries.",
    "title.right": "Right singular vectors: the columns of V",
    "right": "For each eigenvalue, solve (WᵀW - λI)x = 0 and divide x by its length.",
    "right.decimals": "The eigenvectors, divided by their lengths:",
    "right.solve": "For {value}, elimination leaves:",
    "right.any": "nothing: every x is a solution.",
    "right.repeated": "This eigenvalue has multiplicity {k}, and as many vectors span the solutions:",
    "right.orthogonal": "They are already orthogonal.",
    "right.gramschmidt": (
        "Gram-Schmidt makes them orthogonal: y₁ = x₁, and from each following vector its components "
        "along the earlier ones are subtracted."
    ),
    "title.left": "Left singular vectors: the columns of U",
    "left": "Each is W times a right singular vector, divided by the singular value.",
    "left.complete": (
        "Known columns of U: {r} of {m}; missing: {k}. Gram-Schmidt makes them from the unit vectors "
        "e₁, e₂, ...: subtract the components along the known columns, and divide the rest by its "
        "length."
    ),
    "title.assembled": "Assembly and check",
    "assembled.decimals": (
        "Matrices with long entries are shown in decimals. The checks use the exact values."
    ),
    "assembled.check": "U and V are orthogonal, and the product is W:",
    "title.circle": "The unit circle: rotated, stretched, rotated",
    "circle.ellipse": (
        "W maps the unit circle to an ellipse with the semi-axes {s1} along u₁ and {s2} along u₂."
    ),
    "circle.segment": (
        "W flattens the unit circle to a line segment along u₁, which reaches {s1} on both sides of 0."
    ),
    "circle.point": "W maps the whole unit circle to 0.",
    "circle.start": "The unit circle",
    "circle.turned": "{M} rotates it",
    "circle.mirrored": "{M} mirrors it",
    "circle.stretched": "{M} stretches it",
    "circle.compared": (
        "The ring marks (1, 0) and its images; the last one is the first column of W. Dashed: the "
        "unit circle."
    ),
    "circle.alone": (
        "The ring marks (1, 0) and its images; the last one is the first column of W. The panels have"
        " different scales."
    ),
    "title.forms": "Full, compact, truncated",
    "forms": "The columns multiplied by a zero of Σ can be dropped. Dropping more gives an approximation.",
    "forms.form": "form",
    "forms.numbers": "numbers stored",
    "forms.full": "full",
    "forms.compact": "compact",
    "forms.truncated": "truncated",
    # rank
    "title.elimination": "By elimination",
    "elimination": "Row operations do not change the rank.",
    "elimination.already": "No operation is needed: W is already in echelon form.",
    "elimination.count": "Nonzero rows: {r}.",
    "title.minors": "By minors",
    "minors": (
        "The rank is the order of the largest nonzero minor (the determinant of some rows and as many"
        " columns)."
    ),
    "minors.found": "Order {r}, rows {rows}, columns {columns}:",
    "minors.none": "There is no minor of order {k}.",
    "minors.zero": "All minors of order {k} are 0 (number of minors: {count}).",
    "title.values": "By singular values",
    "values": "The rank is the number of nonzero singular values.",
    "title.factors": "Rank factorisation",
    "factors": (
        "C consists of the columns of W with a pivot; F consists of the nonzero rows of the reduced "
        "echelon form. Their product is exactly W."
    ),
    "factors.count": "C and F have {stored} entries; W has {dense}.",
    "factors.full": "W has full rank: it is not a product of smaller matrices.",
    "title.agree": "The three results agree",
    "agree": "The rank is {r}.",
    # lowrank
    "title.cut": "The approximation",
    "cut": "Keep the largest singular values and their vectors, up to rank {r}.",
    "cut.zero": "There is nothing to keep.",
    "title.errors": "The error",
    "errors.none": "Nothing is left out.",
    "errors.frobenius": (
        "Frobenius norm, from the entries of the difference and from the dropped singular values:"
    ),
    "errors.spectral": "Spectral norm: the largest singular value of the difference is {sigma}.",
    "errors.relative": "Relative to W:",
    "errors.theorem": (
        "No matrix of rank {r} is nearer to W than {error} in the Frobenius norm (Eckart and Young). "
        "The truncation is also the nearest in the spectral norm (Mirsky)."
    ),
    # lora
    "title.split": "The factors",
    "split": "The square root of each singular value goes into both factors.",
    "split.scale": "With α = r = {r}, the scale is 1.",
    "split.alpha": "To cancel the scale, the square root of its inverse goes into both factors.",
    "split.product": "In the product the square roots combine, and the approximation is exact:",
    "title.parameters": "Parameters",
    "parameters": "Compared with the dense update:",
    "parameters.saves": "The factors are smaller.",
    "parameters.same": "Nothing is saved: the factors have as many entries as the dense update.",
    "parameters.costs": "The factors are larger than the dense update.",
    "parameters.limit": "The factors are smaller for ranks below mn/(m + n): {limit}.",
    "title.given": "The best A for a given B",
    "given": "Least squares: the A for which BA is nearest to W solves BᵀB A = BᵀW.",
    "given.normal": "The residual is orthogonal to the columns of B:",
    "given.error": "The size of the residual:",
    "given.mean": "The mean absolute entry of the residual is {mean}.",
    "given.best": (
        "With a free choice of B as well, the least error at rank {r} is {error} (Eckart and Young)."
    ),
    # pinv
    "title.pinv": "The pseudo-inverse",
    "pinv": "U and V change places, and each nonzero singular value is inverted.",
    "pinv.sum": "The sum:",
    "pinv.normal": "The columns of W are independent, so the normal equations give the same matrix:",
    "title.conditions": "The four conditions of Moore and Penrose",
    "conditions": "Exactly one matrix satisfies all four.",
    "conditions.use": "x = W⁺b is the shortest of the vectors x for which Wx is nearest to b.",
    "title.condition": "Condition number",
    "condition": "The largest factor by which W⁺ can magnify a relative error:",
    "condition.zero": "A zero matrix has no condition number.",
    # pca
    "title.centred": "Mean, and centred data",
    "mean": "The mean of each column is subtracted from it.",
    "mean.zero": "The sum of every column is now 0.",
    "title.covariance": "Covariance",
    "covariance": (
        "The divisor is n - 1, one less than the number of rows, because the mean was estimated from "
        "the same data."
    ),
    "title.components": "Principal components",
    "components": (
        "The principal components are the eigenvectors of the covariance; the eigenvalues are the "
        "variances along them."
    ),
    "title.explained": "Variance explained",
    "explained": "The eigenvalues add up to the total variance.",
    "explained.zero": "All rows are equal: there is no variance to explain.",
    "explained.share": "share",
    "explained.sum": "cumulative",
    "title.by.svd": "The same result from singular values",
    "by.svd": (
        "The right singular vectors of the centred data are the same vectors, and the variances are "
        "the squared singular values, divided by n - 1."
    ),
    "by.scores": "The rows in the new coordinates:",
}
