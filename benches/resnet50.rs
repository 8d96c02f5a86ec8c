//! Host speed of the stages on ResNet-50, 224x224, batch 1, on `edge_32x32`; the limits are in `benches/limits.sh`.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::{hint::black_box, path::Path, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use systole::{
    config::Accelerator,
    diag::Silent,
    engine::timing::Options,
    pipeline::{self, Network},
};

fn prepared() -> (Accelerator, Network) {
    let accelerator = pipeline::load_config("edge_32x32", &[]).expect("a preset");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet50.ron");
    let model = pipeline::load_model(&path, None).expect("a shipped model");
    let network = pipeline::prepare(&model, &accelerator, None, false).expect("a network for the machine");
    (accelerator, network)
}

fn stages(criterion: &mut Criterion) {
    let (accelerator, network) = prepared();
    let mapped = pipeline::map(&network, &accelerator).expect("it fits");
    let mut group = criterion.benchmark_group("resnet50/edge_32x32");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("import and passes", |bench| bench.iter(prepared));
    group.bench_function("map", |bench| {
        bench.iter(|| pipeline::map(black_box(&network), &accelerator).expect("it fits"));
    });
    group.bench_function("generate", |bench| bench.iter(|| mapped.program.instructions().count()));
    group.bench_function("generate and time", |bench| {
        bench.iter(|| pipeline::time(black_box(&mapped), Options::default()).expect("it ends"));
    });
    group.bench_function("execute and verify", |bench| {
        bench.iter(|| pipeline::execute(black_box(&mapped), None, &mut Silent).expect("it runs"));
    });
    let inputs = pipeline::random_inputs(&network.quantized);
    group.bench_function("reference", |bench| {
        bench.iter(|| pipeline::reference_of(black_box(&mapped), &inputs, true).expect("it runs"));
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
