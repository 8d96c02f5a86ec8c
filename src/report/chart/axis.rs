//! Ticks of linear and logarithmic axes, and their labels.

/// Ticks from 0 to at most `end` at steps of 1, 2 or 5 times a power of ten, `about` of them or fewer.
pub fn linear(end: f64, about: u32) -> Vec<f64> {
    if !(end.is_finite() && end > 0.0) {
        return vec![0.0];
    }
    let raw = end / f64::from(about.max(1));
    let decade = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|&step| step >= raw * 0.999).unwrap_or(raw);
    (0..=about).map(|i| f64::from(i) * step).take_while(|&tick| tick <= end * 1.000_001).collect()
}

/// Labels of linear ticks with one decimal prefix for all: `0`, `0.5 M`, `1.0 M`.
pub fn labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.last().copied().unwrap_or(0.0);
    let step = ticks.get(1).copied().unwrap_or(1.0);
    let (scale, prefix) = [(1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")]
        .into_iter()
        .find(|&(scale, _)| largest >= scale)
        .unwrap_or((1.0, ""));
    let decimals = usize::from(step / scale < 0.999) + usize::from(step / scale < 0.0999);
    ticks
        .iter()
        .map(|&tick| if tick == 0.0 { "0".to_owned() } else { format!("{:.decimals$}{prefix}", tick / scale) })
        .collect()
}

/// A logarithmic axis: its ends and where its lines are.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Lower end, above 0.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Log {
    /// Decades that an axis shows at most; what is further below its top is left out.
    const MOST: f64 = 9.0;

    /// Covers the values that are above 0 with a margin of a factor on both sides; at least two decades.
    pub fn around(values: impl IntoIterator<Item = f64>, margin: f64) -> Self {
        let fine = values.into_iter().filter(|value| value.is_finite() && (1e-30..1e30).contains(value));
        let (low, high) = fine.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0.0 {
            return Self { low: 0.1, high: 1000.0 };
        }
        let (mut low, high) = (low / margin, high * margin);
        low = low.max(high / 10f64.powf(Self::MOST));
        let missing = 2.0 - (high / low).log10();
        let widen = 10f64.powf(missing.max(0.0) / 2.0);
        Self { low: low / widen, high: high * widen }
    }

    /// Where a value is: 0 at the low end, 1 at the high end; may lie outside.
    pub fn share(&self, value: f64) -> f64 {
        (value / self.low).ln() / (self.high / self.low).ln()
    }

    /// Whether a value is on the axis.
    pub fn contains(&self, value: f64) -> bool {
        value >= self.low && value <= self.high
    }

    /// Values with a label, and those with a thin line only.
    pub fn ticks(&self) -> (Vec<f64>, Vec<f64>) {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades < 3.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = self.low.log10().floor();
        let (mut major, mut minor) = (Vec::new(), Vec::new());
        for decade in 0u32..=12 {
            let base = 10f64.powf(first + f64::from(decade));
            major.extend(steps.iter().map(|step| step * base).filter(|&tick| self.contains(tick)));
            if decades < 6.0 {
                let all = (2u32..10).map(|digit| f64::from(digit) * base);
                minor.extend(all.filter(|&tick| self.contains(tick)));
            }
        }
        (major, minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_share_a_prefix() {
        let ticks = linear(1_730_000.0, 5);
        assert_eq!(labels(&ticks), ["0", "0.5 M", "1.0 M", "1.5 M"]);
        assert_eq!(labels(&linear(90_000.0, 5)), ["0", "20 k", "40 k", "60 k", "80 k"]);
        assert_eq!(linear(0.0, 5), [0.0]);
        assert_eq!(linear(f64::NAN, 5), [0.0]);
    }

    #[test]
    fn a_log_axis_covers_its_values_and_never_too_many_decades() {
        let axis = Log::around([3.0, 700.0, 0.0, f64::NAN], 2.0);
        assert!(axis.contains(3.0) && axis.contains(700.0));
        assert!(axis.share(axis.low).abs() < 1e-12 && (axis.share(axis.high) - 1.0).abs() < 1e-12);
        let (major, _) = axis.ticks();
        assert!(major.iter().any(|&tick| (tick - 10.0).abs() < 1e-9), "{major:?}");
        let wide = Log::around([1e-25, 1e25], 2.0);
        assert!((wide.high / wide.low).log10() <= 9.01);
        let narrow = Log::around([5.0], 1.5);
        assert!((narrow.high / narrow.low).log10() >= 1.99);
        assert_eq!(Log::around([], 2.0), Log { low: 0.1, high: 1000.0 });
    }
}
