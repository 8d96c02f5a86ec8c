//! Host speed of the integer kernels: array tiles as the functional engine asks for them, in multiply-accumulates.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use systole::kernels::{
    gemm::{Packed, gemm, gemm_scalar},
    requantize::{Limits, requantize_row},
};

/// Values of a byte less a zero point, the same every time.
fn operands(count: usize) -> Vec<i16> {
    (0..count).map(|i| i16::from((i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()[0]) - 128).collect()
}

fn array_tiles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("array tile");
    for (m, k, n) in [(196, 32, 32), (3136, 64, 64), (784, 256, 128)] {
        let mut packed = Packed::default();
        packed.reset(n, k);
        let weights = operands(n * k);
        for (j, row) in weights.chunks_exact(k).enumerate() {
            packed.set_row(j, row);
        }
        let a = operands(m * packed.padded_k());
        let offsets: Vec<usize> = (0..m).map(|i| i * n).collect();
        let mut sums = vec![0; m * n];
        group.throughput(Throughput::Elements((m * k * n) as u64));
        group.bench_function(format!("{m}x{k}x{n}"), |bench| {
            bench.iter(|| gemm(black_box(&a), &packed, &mut sums, &offsets, false));
        });
        group.bench_function(format!("{m}x{k}x{n} scalar"), |bench| {
            bench.iter(|| gemm_scalar(black_box(&a), &packed, &mut sums, &offsets, false));
        });
    }
    group.finish();
}

fn requantization(criterion: &mut Criterion) {
    let channels = 256;
    let sums: Vec<i32> = operands(channels).into_iter().map(|value| i32::from(value) * 500).collect();
    let (bias, multiplier, mut out) = (vec![7; channels], vec![0.001; channels], vec![0; channels]);
    let limits = Limits { zero_point: 3, low: 0, high: 255 };
    let mut group = criterion.benchmark_group("requantize");
    group.throughput(Throughput::Elements(channels as u64));
    group.bench_function("row of 256", |bench| {
        bench.iter(|| requantize_row(black_box(&sums), &bias, &multiplier, limits, &mut out));
    });
    group.finish();
}

criterion_group!(benches, array_tiles, requantization);
criterion_main!(benches);
