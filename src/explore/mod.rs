//! Sweeps, Pareto fronts and comparisons of machines. Nothing is here yet; see `docs/roadmap.md`.
