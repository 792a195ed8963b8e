"""The sentences in English. Gaps in braces are filled with formulas or whole numbers."""

SENTENCES = {
    "topic.svd": "The singular value decomposition by hand",
    "topic.rank": "The rank, three ways",
    "topic.lowrank": "The best approximation of low rank",
    "topic.lora": "From an update to the factors B and A of LoRA",
    "topic.pinv": "The pseudo-inverse",
    "topic.pca": "Principal components",
    "done.exact": "exact",
    "done.decimals": "to 20 decimals",
    "done.wrong": "DOES NOT HOLD",
    # shared
    "title.matrix": "The matrix",
    "matrix.shape": "{m} rows and {n} columns.",
    "title.summary": "Singular values and vectors",
    "summary": "The command svd shows how these are found.",
    "zero": "Every entry is 0: no singular value is positive, and the rank is 0.",
    "decimals.degree": (
        "A factor of degree {d} has no roots that are worth writing with radicals. "
        "From here on everything is worked with 80 digits and shown with 4 decimals."
    ),
    "decimals.nested": (
        "The roots are square roots under square roots. "
        "From here on everything is worked with 80 digits and shown with 4 decimals."
    ),
    "decimals.summary": (
        "The eigenvalues have no short exact form: everything is worked with 80 digits and shown with 4 decimals."
    ),
    "roots.quadratic": "The quadratic formula for {factor}:",
    "title.energy": "Energy",
    "energy": (
        "The energy is the sum of the squared singular values; E(r) is the share that the first r of them hold."
    ),
    "energy.zero": "A zero matrix has no energy.",
    "energy.total": "The same sum, from the entries:",
    # svd
    "title.gram": "W transposed times W",
    "gram": "This product is symmetric and has no negative eigenvalue. Its eigenvalues are the squares of sigma.",
    "title.polynomial": "Characteristic polynomial and eigenvalues",
    "polynomial": "The eigenvalues are the roots of the characteristic polynomial.",
    "title.sigma": "Singular values",
    "sigma": "A singular value is the square root of an eigenvalue, largest first.",
    "sigma.zero": "The eigenvalue 0, counted {k} times, gives no singular value.",
    "sigma.rank": "Singular values that are not 0: {r}. That is the rank.",
    "sigma.trace": "Check: the eigenvalues add up to the trace, which is the sum of the squared entries.",
    "title.right": "Right singular vectors: the columns of V",
    "right": "For each eigenvalue, solve (WᵀW - λI)x = 0 and divide x by its length.",
    "right.decimals": "The eigenvectors, divided by their lengths:",
    "right.solve": "For {value}, elimination leaves:",
    "right.any": "nothing, so that every x is a solution.",
    "right.repeated": "This eigenvalue occurs {k} times, and the solutions are spanned by as many vectors:",
    "right.orthogonal": "They are orthogonal already.",
    "right.gramschmidt": "Gram-Schmidt makes them orthogonal: y₁ = x₁, and from each next one its part along the earlier ones is taken.",
    "title.left": "Left singular vectors: the columns of U",
    "left": "Each is what W makes of a right singular vector, divided by sigma.",
    "left.complete": (
        "Columns found: {r}; U has {m}; {k} to go. Gram-Schmidt makes them from the unit vectors e₁, e₂, ...: "
        "take away the part along the columns found, and divide what is left by its length."
    ),
    "title.assembled": "Put together, and multiplied back",
    "assembled.decimals": "A matrix whose entries are too long is shown in decimals. The checks use the exact values.",
    "assembled.check": "U and V are orthogonal, and the product is W again:",
    "title.circle": "The unit circle: turned, stretched, turned",
    "circle.ellipse": "W makes of the unit circle an ellipse with the half axes {s1} along u₁ and {s2} along u₂.",
    "circle.segment": "W flattens the unit circle to a segment: along u₁, to {s1} on both sides of 0.",
    "circle.point": "W sends the whole unit circle to 0.",
    "circle.start": "The unit circle",
    "circle.turned": "{M} turns it",
    "circle.mirrored": "{M} mirrors it",
    "circle.stretched": "{M} stretches it",
    "circle.beside": "The ring follows (1, 0), which ends at the first column of W. Dashed: the unit circle.",
    "circle.alone": "The ring follows (1, 0), which ends at the first column of W. Mind the scales.",
    "title.forms": "Full, compact, truncated",
    "forms": "The columns that meet a zero of Σ can be left out; leaving out more makes an approximation.",
    "forms.form": "form",
    "forms.numbers": "numbers stored",
    "forms.full": "full",
    "forms.compact": "compact",
    "forms.truncated": "truncated",
    # rank
    "title.elimination": "By elimination",
    "elimination": "Row operations do not change the rank.",
    "elimination.already": "Nothing needs to be done: this is an echelon form already.",
    "elimination.count": "Rows that are not zero: {r}.",
    "title.minors": "By minors",
    "minors": "The rank is the order of the largest minor (determinant of chosen rows and columns) that is not 0.",
    "minors.found": "Order {r}, rows {rows}, columns {columns}:",
    "minors.none": "There is no minor of order {k}.",
    "minors.zero": "The minors of order {k}, {count} of them, are all 0.",
    "title.values": "By singular values",
    "values": "The rank is the number of singular values that are not 0.",
    "title.factors": "What the rank is good for",
    "factors": (
        "C holds the columns of W in which elimination found a pivot; F holds the non-zero rows of the "
        "reduced echelon form. Their product is W, exactly."
    ),
    "factors.count": "C and F hold {stored} numbers, W holds {dense}.",
    "factors.full": "The rank is as large as it can be: W is no product of smaller matrices.",
    "title.agree": "The three agree",
    "agree": "The rank is {r}.",
    # lowrank
    "title.cut": "The approximation",
    "cut": "Keep the first {r} of the singular values, with their vectors.",
    "cut.zero": "There is nothing to keep.",
    "title.errors": "The error",
    "errors.none": "Nothing is left out.",
    "errors.frobenius": "Frobenius norm: from the entries of the difference, and from the sigma left out.",
    "errors.spectral": "Spectral norm: the largest singular value of the difference is {sigma}.",
    "errors.relative": "Relative to W:",
    "errors.theorem": (
        "By Eckart and Young no matrix of rank {r} comes nearer to W than {error} in the Frobenius norm; "
        "by Mirsky the same holds for the spectral norm."
    ),
    # lora
    "title.split": "The factors",
    "split": "The square root of each sigma goes to both sides.",
    "split.scale": "With α = r = {r} the scale in front is 1.",
    "split.alpha": "The scale in front is undone by its inverse, whose square root goes into both factors.",
    "split.product": "In the product the roots meet, and the approximation comes out exactly:",
    "title.parameters": "Parameters",
    "parameters": "Against the dense update:",
    "parameters.saves": "The factors are smaller.",
    "parameters.same": "Nothing is saved: the factors hold as many numbers as the dense update.",
    "parameters.costs": "The factors are larger than the dense update.",
    "parameters.limit": "Something is saved for ranks under mn/(m + n): {limit}.",
    "title.given": "The best A for a given B",
    "given": "Least squares: the A for which BA is nearest to W solves BᵀB A = BᵀW.",
    "given.normal": "What is left over is orthogonal to the columns of B:",
    "given.error": "How much is left over:",
    "given.mean": "The mean of the absolute entries is {mean}.",
    "given.best": "With a free choice of B too, the least error at rank {r} is {error} (Eckart and Young).",
    # pinv
    "title.pinv": "The pseudo-inverse",
    "pinv": "Turn the decomposition around: V and U change sides, and each sigma that is not 0 is inverted.",
    "pinv.sum": "Added up:",
    "pinv.normal": "The columns of W are independent, so the normal equations give the same:",
    "title.conditions": "The four conditions of Moore and Penrose",
    "conditions": "Exactly one matrix fulfils all four.",
    "conditions.use": "x = W⁺b is the shortest x for which Wx comes nearest to b.",
    "title.condition": "Condition number",
    "condition": "By how much W⁺ can magnify a relative error, at worst:",
    "condition.zero": "A zero matrix has no condition number.",
    # pca
    "title.centred": "Mean, and centred data",
    "mean": "The mean of each column is subtracted from it.",
    "mean.zero": "Every column now adds up to 0.",
    "title.covariance": "Covariance",
    "covariance": "Divided by n - 1, one less than the number of rows, because the mean came from the same data.",
    "title.components": "Principal components",
    "components": "They are the eigenvectors of the covariance; the eigenvalues are the variances along them.",
    "title.explained": "Variance explained",
    "explained": "The eigenvalues add up to the total variance.",
    "explained.zero": "All rows are alike: there is no variance to explain.",
    "explained.share": "share",
    "explained.sum": "together",
    "title.by.svd": "The same by singular values",
    "by.svd": (
        "The right singular vectors of the centred data are the same vectors, "
        "and the variances are the squares of sigma, divided by n - 1."
    ),
    "by.scores": "Every row in the new coordinates:",
}
