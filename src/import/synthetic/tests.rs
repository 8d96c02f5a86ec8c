use super::*;
use crate::{ir::Synthetic, tensor::Quantization};

fn constant(dtype: DType, shape: &[usize], distribution: Distribution) -> Value {
    let constant = Some(Constant::Synthetic(Synthetic { seed: seed(&["net", "layer", "weight"]), distribution }));
    Value { name: "w".to_owned(), shape: shape.to_vec(), dtype, quant: None, constant }
}

fn moments(values: &[i64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| value as f64).sum::<f64>() / count;
    let square = values.iter().map(|&value| (value as f64 - mean).powi(2)).sum::<f64>() / count;
    (mean, square.sqrt())
}

#[test]
fn seeds_are_fnv_1a_of_closed_parts() {
    // FNV-1a of the bytes `61 00`.
    assert_eq!(seed(&[]), 0xCBF2_9CE4_8422_2325);
    assert_eq!(seed(&["a"]), 0x089B_E207_B544_F1E4);
    assert_ne!(seed(&["ab", "c"]), seed(&["a", "bc"]));
}

#[test]
fn the_hash_is_splitmix64() {
    // First outputs of the reference implementation for the state 1234567.
    let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([0, 1, 2].map(|index| hash(1_234_567, index)), expected);
}

#[test]
fn normal_weights_have_the_stated_deviation_and_limit() {
    for sigma in [2.5_f32, 28.0, 60.0] {
        let value = constant(DType::Int8, &[64, 3, 33, 31], Distribution::Normal { sigma, limit: 127 });
        let values = materialize(&value).unwrap().to_integers().unwrap();
        let (mean, deviation) = moments(&values);
        assert!(mean.abs() < 0.01 * f64::from(sigma), "{mean}");
        // Rounding adds a variance of 1/12; the limit takes some from the widest.
        let expected = (f64::from(sigma).powi(2) + 1.0 / 12.0).sqrt();
        let low = if sigma > 50.0 { 0.93 } else { 0.99 };
        assert!((low * expected..1.01 * expected).contains(&deviation), "{sigma}: {deviation}");
        let largest = values.iter().map(|value| value.abs()).max().unwrap();
        assert!(largest <= 127 && largest as f64 > 3.9 * f64::from(sigma).min(30.0), "{largest}");
    }
}

#[test]
fn normal_biases_are_fine_grained() {
    let value = constant(DType::Int32, &[4096], Distribution::Normal { sigma: 10_000.0, limit: 1 << 20 });
    let values = materialize(&value).unwrap().to_integers().unwrap();
    let (mean, deviation) = moments(&values);
    assert!(mean.abs() < 500.0 && (9_700.0..10_300.0).contains(&deviation), "{mean} {deviation}");
    let mut distinct = values.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 3500, "{}", distinct.len());
}

#[test]
fn uniform_constants_reach_both_ends_and_nothing_else() {
    for dtype in [DType::Int8, DType::Int16] {
        let value = constant(dtype, &[20_000], Distribution::Uniform { low: -3, high: 5 });
        let values = materialize(&value).unwrap().to_integers().unwrap();
        for expected in -3..=5 {
            let count = values.iter().filter(|&&value| value == expected).count();
            assert!((1900..2600).contains(&count), "{expected}: {count}");
        }
        assert_eq!((values.iter().min(), values.iter().max()), (Some(&-3), Some(&5)));
    }
    let value = constant(DType::Int32, &[100], Distribution::Uniform { low: i32::MIN, high: i32::MAX });
    assert_eq!(materialize(&value).unwrap().len(), 100);
}

#[test]
fn an_element_depends_on_its_index_alone() {
    for (dtype, sigma) in [(DType::Int8, 28.0), (DType::Int32, 999.0)] {
        let limit = if dtype == DType::Int8 { 127 } else { 1 << 20 };
        let all = |count: usize| {
            let value = constant(dtype, &[count], Distribution::Normal { sigma, limit });
            materialize(&value).unwrap().to_integers().unwrap()
        };
        let long = all(103);
        for count in [1, 2, 3, 4, 5, 102] {
            assert_eq!(all(count), long[..count]);
        }
    }
}

#[test]
fn the_first_weights_of_a_layer_never_change() {
    // Recorded from this implementation: results of committed layer lists rest on them.
    let value = constant(DType::Int8, &[8], Distribution::Normal { sigma: 28.0, limit: 127 });
    assert_eq!(materialize(&value).unwrap().to_integers().unwrap(), FIRST);
}

const FIRST: [i64; 8] = [-16, 11, 61, 16, 16, -46, 14, -41];

#[test]
fn what_cannot_be_made_is_none() {
    let normal = Distribution::Normal { sigma: 28.0, limit: 127 };
    assert!(materialize(&constant(DType::Fp32, &[8], normal.clone())).is_none());
    assert!(materialize(&constant(DType::UInt8, &[8], normal.clone())).is_none());
    assert!(materialize(&constant(DType::Int8, &[1 << 20, 1 << 20], normal.clone())).is_none());
    assert!(materialize(&constant(DType::Int8, &[usize::MAX, 2], normal.clone())).is_none());
    assert!(materialize(&constant(DType::Int8, &[8], Distribution::Normal { sigma: f32::NAN, limit: 1 })).is_none());
    assert!(materialize(&constant(DType::Int8, &[8], Distribution::Uniform { low: 2, high: 1 })).is_none());
    assert!(materialize(&Value { constant: None, ..constant(DType::Int8, &[8], normal) }).is_none());
}

#[test]
fn random_images_are_smooth_and_fill_their_range() {
    let quant = Some(Quantization::per_tensor(0.0187, 114));
    let value = |dtype| Value { quant: quant.clone(), constant: None, ..constant(dtype, &[2, 3, 64, 48], NO) };
    let pixels = random_input(&value(DType::UInt8), 5).to_integers().unwrap();
    let (mean, deviation) = moments(&pixels);
    assert!((100.0..156.0).contains(&mean) && (30.0..80.0).contains(&deviation), "{mean} {deviation}");
    let steps: Vec<i64> = pixels.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(moments(&steps).1 < 0.7 * deviation, "{}", moments(&steps).1);
    assert_ne!(pixels[..64 * 48 * 3], pixels[64 * 48 * 3..]);
    assert_ne!(random_input(&value(DType::UInt8), 6).to_integers().unwrap(), pixels);
    let floats = random_input(&Value { quant: None, ..value(DType::Fp32) }, 5).to_f32();
    let square = floats.iter().map(|value| value * value).sum::<f32>() / floats.len() as f32;
    assert!((0.4..2.5).contains(&square.sqrt()), "{square}");
}

const NO: Distribution = Distribution::Uniform { low: 0, high: 0 };

#[test]
#[ignore = "measures speed: run in release"]
fn speed_of_25_million_weights() {
    let value = constant(DType::Int8, &[25_000_000], Distribution::Normal { sigma: 28.0, limit: 127 });
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let tensor = materialize(&value).unwrap();
        eprintln!("{:?} for {} elements", start.elapsed(), tensor.len());
    }
}
