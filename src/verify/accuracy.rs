//! How well logits name the classes of labelled samples.

use crate::tensor::{DType, Quantization, Tensor};

/// Classification score over a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Fraction of samples whose largest logit is the label's. Among equal logits the lowest class counts as larger.
    pub top1: f64,
    /// Fraction of samples whose label is among the five largest logits, or among all where there are fewer classes.
    pub top5: f64,
    /// Mean cross-entropy of the softmax of the logits, in nats.
    pub loss: f64,
    /// Number of samples.
    pub samples: u64,
}

/// Why there is no score.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccuracyError {
    /// Logits are one row of classes a sample.
    #[error("logits have the shape {shape:?}, expected [samples, classes] for {labels} labels")]
    Shape {
        /// Of the logits.
        shape: Vec<usize>,
        /// Number of labels.
        labels: usize,
    },
    /// There is nothing to score.
    #[error("no samples")]
    NoSamples,
    /// A label is not a class.
    #[error("the label of sample {sample} is {label}, there are {classes} classes")]
    Label {
        /// Index of the sample.
        sample: usize,
        /// Its label.
        label: i64,
        /// Number of classes.
        classes: usize,
    },
    /// Integer logits stand for real ones only with a scale.
    #[error("logits of type {0:?} need one scale and zero point for the whole tensor")]
    Quantization(DType),
}

/// Scores `logits [N, classes]` (further dimensions of 1 are ignored) against `N` labels. Integer logits are real
/// values `scale * (q - zero_point)`; float ones must come without a quantization.
///
/// # Errors
/// Shapes or labels that do not fit, no samples, or integer logits without a scale.
pub fn accuracy(logits: &Tensor, quantization: Option<&Quantization>, labels: &[i64]) -> Result<Score, AccuracyError> {
    let shape_error = || AccuracyError::Shape { shape: logits.shape().to_vec(), labels: labels.len() };
    let [samples, classes, rest @ ..] = logits.shape() else { return Err(shape_error()) };
    if *samples != labels.len() || rest.iter().any(|&dim| dim != 1) {
        return Err(shape_error());
    }
    if labels.is_empty() {
        return Err(AccuracyError::NoSamples);
    }
    let real = real_values(logits, quantization)?;
    let (mut top1, mut top5, mut loss) = (0_u64, 0_u64, 0.0);
    for (sample, &label) in labels.iter().enumerate() {
        let row = &real[sample * classes..][..*classes];
        let class = usize::try_from(label).ok().filter(|class| class < classes);
        let class = class.ok_or(AccuracyError::Label { sample, label, classes: *classes })?;
        let own = row[class];
        // A NaN is never ahead of a number, and a label with a NaN is behind all others.
        #[allow(clippy::float_cmp)] // A tie is exact equality.
        let ahead = row
            .iter()
            .enumerate()
            .filter(|&(other, &logit)| {
                other != class && (own.is_nan() || logit > own || (logit == own && other < class))
            })
            .count();
        top1 += u64::from(ahead == 0);
        top5 += u64::from(ahead < 5);
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
        loss += sum.ln() + (largest - own);
    }
    let count = labels.len() as f64;
    Ok(Score { top1: top1 as f64 / count, top5: top5 as f64 / count, loss: loss / count, samples: labels.len() as u64 })
}

fn real_values(logits: &Tensor, quantization: Option<&Quantization>) -> Result<Vec<f64>, AccuracyError> {
    match (logits, quantization) {
        (Tensor::F32(array), None) => Ok(array.iter().map(|&value| f64::from(value)).collect()),
        (Tensor::F64(array), None) => Ok(array.iter().copied().collect()),
        (_, Some(quant)) if quant.scale.len() == 1 && quant.zero_point.len() == 1 => {
            let integers = logits.to_integers().ok_or(AccuracyError::Quantization(logits.dtype()))?;
            let (scale, zero) = (f64::from(quant.scale[0]), i64::from(quant.zero_point[0]));
            Ok(integers.into_iter().map(|q| q.saturating_sub(zero) as f64 * scale).collect())
        }
        _ => Err(AccuracyError::Quantization(logits.dtype())),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Counted fractions are exact.
mod tests {
    use super::*;

    fn logits(rows: &[&[f32]]) -> Tensor {
        Tensor::from_f32(&[rows.len(), rows[0].len()], rows.concat()).unwrap()
    }

    #[test]
    fn equal_logits_go_to_the_lowest_class() {
        let tied = logits(&[&[1.0, 1.0, 0.0]]);
        assert_eq!(accuracy(&tied, None, &[0]).unwrap().top1, 1.0);
        assert_eq!(accuracy(&tied, None, &[1]).unwrap().top1, 0.0);
    }

    #[test]
    fn top5_counts_five_classes_and_all_where_there_are_fewer() {
        let six = logits(&[&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]);
        assert_eq!(accuracy(&six, None, &[4, 5]).unwrap().top5, 0.5);
        assert_eq!(accuracy(&logits(&[&[3.0, 2.0, 1.0]]), None, &[2]).unwrap().top5, 1.0);
    }

    #[test]
    fn uniform_logits_lose_the_logarithm_of_the_number_of_classes_however_large_they_are() {
        for level in [0.0, 1e6, -1e6] {
            let score = accuracy(&logits(&[&[level; 10]]), None, &[7]).unwrap();
            assert!((score.loss - 10_f64.ln()).abs() < 1e-9, "{score:?}");
        }
        let score = accuracy(&logits(&[&[1000.0, 0.0]]), None, &[1]).unwrap();
        assert!((score.loss - 1000.0).abs() < 1e-9, "{score:?}");
    }

    #[test]
    fn integer_logits_are_scored_as_the_real_values_that_they_stand_for() {
        let quant = Quantization::per_tensor(0.5, 10);
        let integers = Tensor::from_integers(DType::UInt8, &[1, 2], &[10, 12]).unwrap();
        let real = accuracy(&logits(&[&[0.0, 1.0]]), None, &[1]).unwrap();
        assert_eq!(accuracy(&integers, Some(&quant), &[1]).unwrap(), real);
        assert_eq!(accuracy(&integers, None, &[1]), Err(AccuracyError::Quantization(DType::UInt8)));
    }

    #[test]
    fn labels_and_shapes_that_do_not_fit_are_refused() {
        let two = logits(&[&[0.0, 1.0]]);
        assert_eq!(accuracy(&two, None, &[2]), Err(AccuracyError::Label { sample: 0, label: 2, classes: 2 }));
        assert_eq!(accuracy(&two, None, &[-1]), Err(AccuracyError::Label { sample: 0, label: -1, classes: 2 }));
        assert!(matches!(accuracy(&two, None, &[0, 1]), Err(AccuracyError::Shape { .. })));
    }
}
