# ruff: noqa: RUF001 - signs of other alphabets are what is meant
# ruff: noqa: SIM905 - a table of words is read best as words
"""Commands of LaTeX mathematics and the signs that they stand for.

Source: the symbol tables of LaTeX2e and amsmath.
"""

from typing import Final

_GREEK: Final = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ vartheta θ iota ι kappa κ "
    "lambda λ mu μ nu ν xi ξ pi π varpi π rho ρ varrho ρ sigma σ varsigma ς tau τ upsilon υ phi φ varphi φ "
    "chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω"
).split()
_OPERATORS: Final = (
    "times × cdot · div ÷ pm ± mp ∓ ast * star ⋆ circ ∘ bullet • oplus ⊕ otimes ⊗ "
    "le ≤ leq ≤ leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ approx ≈ equiv ≡ sim ~ simeq ≃ cong ≅ propto ∝ "
    "ll ≪ gg ≫ lt < gt > in ∈ notin ∉ ni ∋ subset ⊂ subseteq ⊆ supset ⊃ supseteq ⊇ cup ∪ cap ∩ setminus ∖ "
    "to → rightarrow → longrightarrow → mapsto ↦ leftarrow ← Rightarrow ⇒ implies ⇒ Leftarrow ⇐ "
    "leftrightarrow ↔ Leftrightarrow ⇔ iff ⇔ mid | land ∧ wedge ∧ lor ∨ vee ∨ neg ¬ lnot ¬"
).split()
_SINGLE: Final = (
    "infty ∞ partial ∂ nabla ∇ sum ∑ prod ∏ int ∫ oint ∮ sqrt √ forall ∀ exists ∃ emptyset ∅ varnothing ∅ "
    "degree ° hbar ℏ ell ℓ Re ℜ Im ℑ aleph ℵ angle ∠ perp ⊥ parallel ∥ prime ′ ldots … cdots … dots … "
    "vdots … percent %"
).split()

FUNCTIONS: Final = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim limsup liminf max min sup "
    "inf det dim ker gcd deg arg mod bmod Pr".split()
)
"""Functions whose names are said."""

SIGNS: Final = (
    dict(zip(_GREEK[::2], _GREEK[1::2], strict=True))
    | {name: f" {sign} " for name, sign in zip(_OPERATORS[::2], _OPERATORS[1::2], strict=True)}
    | dict(zip(_SINGLE[::2], _SINGLE[1::2], strict=True))
)
"""Signs by the name of their command; operators stand between spaces."""
