//! Tests of reading, overriding and checking configs as a whole.
#![allow(clippy::float_cmp)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::diag::{Diagnostic, Faults, Source};

fn text_of(preset: &str) -> &'static str {
    presets().iter().find(|known| known.name == preset).unwrap().text
}

fn read(text: &str, overrides: &[&str]) -> Result<Accelerator, Faults> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    load_source(&Source { name: "test.ron".into(), text: Arc::from(text) }, &overrides)
}

fn faults(text: &str, overrides: &[&str]) -> Vec<Diagnostic> {
    read(text, overrides).expect_err("should be refused").0
}

/// The preset with one piece of its text replaced.
fn edited(from: &str, to: &str) -> String {
    let text = text_of("edge_16x16");
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// The only fault, as one line.
fn only(text: &str, overrides: &[&str]) -> String {
    let found = faults(text, overrides);
    assert_eq!(found.len(), 1, "{}", Faults(found));
    found[0].to_string()
}

#[test]
fn all_faults_of_a_file_come_at_once_each_with_its_place() {
    let text = edited("rows: 16", "rows: 0")
        .replace("clock_mhz: 500.0", "clock_mhz: NaN")
        .replace("burst_bytes: 64", "burst_bytes: 48")
        .replace("weights: \"LPDDR4\"", "weights: \"LPDDR5\"")
        .replace("(Requantize, 1),", "");
    let found = faults(&text, &[]);
    let paths: Vec<&str> = found.iter().map(|fault| fault.path.as_deref().unwrap()).collect();
    assert_eq!(paths, ["array.rows", "array.clock_mhz", "dma.burst_bytes", "placement.weights", "vector.cycles"]);
    for fault in &found {
        let (source, range) = fault.span.clone().unwrap();
        let (line, _) = fault.line_column().unwrap();
        assert!(line > 5, "{fault}");
        assert!(!source.text[range].is_empty());
        assert!(fault.help.is_some(), "{fault}");
    }
    assert!(
        found[0].to_string().starts_with("test.ron:7:15: array.rows: expected an integer from 1 to 1,024, found `0`")
    );
    assert!(found[3].help.as_deref().unwrap().contains("did you mean `LPDDR4`?"));
}

#[test]
fn structural_faults_come_at_once_too() {
    let text = edited("rows: 16", "rowz: 16")
        .replace("overflow: Wrap", "overflow: Wrapp")
        .replace("lanes: 16,", "lanes: \"many\",")
        .replace("        burst_bytes: 64,\n", "")
        .replace("residency: true", "residency: true, residency: 1");
    let found: Vec<String> = faults(&text, &[]).iter().map(ToString::to_string).collect();
    let has = |part: &str| assert!(found.iter().any(|fault| fault.contains(part)), "{part} in {found:#?}");
    has("array.rowz: unknown field (did you mean `rows`?)");
    has("array.rows: missing: expected an integer from 1 to 1,024");
    has("array.overflow: expected one of `Wrap`, `Saturate`, found `Wrapp` (did you mean `Wrap`?)");
    has("vector.lanes: expected an integer from 1 to 4,096, found `many`");
    has("dma.burst_bytes: missing: expected a power of two from 1 to 4,096");
    has("residency: given more than once");
    has("residency: expected `true` or `false`, found `1`");
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn quotes_and_brackets_of_the_wrong_kind_are_faults_with_field_place_and_advice() {
    let text = edited("name: \"edge_16x16\"", "name: edge")
        .replace("overflow: Wrap", "overflow: \"Wrap\"")
        .replace("dataflows: [WS]", "dataflows: (WS)")
        .replace("(Requantize, 1)", "[Requantize, 1]");
    let found = faults(&text, &[]);
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    for (index, part) in [
        "name: expected a text of 1 to 64 characters in quotes, found `edge` (put it in quotes: `\"edge\"`)",
        "array.dataflows: expected a list of 1 to 3 items in brackets, each one of `WS`, `OS`, `IS`, found parentheses",
        "array.overflow: expected one of `Wrap`, `Saturate`, found a text in quotes (leave the quotes out: `Wrap`)",
        "vector.cycles.0: expected a pair in parentheses",
    ]
    .iter()
    .enumerate()
    {
        assert!(told[index].starts_with("test.ron:") && told[index].contains(part), "{told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[test]
fn names_of_choices_are_matched_without_regard_to_case() {
    let plain = read(text_of("edge_16x16"), &[]).unwrap();
    let text = edited("overflow: Wrap", "overflow: wrap")
        .replace("dataflows: [WS]", "dataflows: [ws]")
        .replace("input_type: Int8", "input_type: INT8")
        .replace("model: Ideal(", "model: ideal(")
        .replace("Shared((", "shared((");
    assert!(text.contains("[ws]") && text.contains("INT8") && text.contains("ideal(") && text.contains("shared(("));
    assert_eq!(read(&text, &[]).unwrap(), plain);
    let sets = ["array.input_type=int8", "array.overflow=WRAP", "memories.0.model.ideal.latency_ns=50"];
    let set = read(&text, &sets).unwrap();
    assert_eq!(set.config.array, plain.config.array);
    // A fault inside such a variant still has its place.
    let fault = only(&text.replace("banks: 4", "banks: 0"), &[]);
    assert!(fault.starts_with("test.ron:") && fault.contains("buffers.layout.Shared.banks: expected"), "{fault}");
    let line = |fault: &str| fault.split(':').nth(1).unwrap().parse::<usize>().unwrap();
    assert!(text.lines().nth(line(&fault) - 1).unwrap().contains("banks"), "{fault}");
}

#[test]
fn a_wrong_name_is_told_with_what_is_legal_at_its_field() {
    let legal = "expected one of `Int4`, `Int8`, `UInt8`, `Int16`, `Fp8`, `Bf16`, `Fp16`, `Fp32`, found `fp64`";
    let text = edited("input_type: Int8", "input_type: fp64").replace("overflow: Wrap", "overflow: warp");
    let told: Vec<String> = faults(&text, &["vector.placement=InStorPath"]).iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with("test.ron:") && told[0].contains(legal), "{}", told[0]);
    assert!(told[1].contains("expected one of `Wrap`, `Saturate`, found `warp` (did you mean `Wrap`?)"), "{}", told[1]);
    let placement = "expected one of `Separate`, `InStorePath`, found `InStorPath` (did you mean `InStorePath`?)";
    assert!(told[2].starts_with("--set:1:18: ") && told[2].contains(placement), "{}", told[2]);
    assert!(only(text_of("edge_16x16"), &["array.weight_type=Bool"]).contains("expected one of `Int4`"));
}

#[test]
fn sizes_as_people_write_them_get_the_plain_number() {
    for size in ["128KiB", "128 KiB", "128 * 1024", "1 << 17"] {
        let text = edited("bytes: 131072", &format!("bytes: {size}"));
        let set = format!("buffers.layout.Shared.bytes={size}");
        for fault in [only(&text, &[]), only(text_of("edge_16x16"), &[&set])] {
            assert!(fault.contains("buffers.layout.Shared.bytes: expected an integer"), "{fault}");
            assert!(fault.contains(&format!("found `{size}` (give bytes: 131072)")), "{fault}");
        }
    }
    let text =
        edited("bytes: 131072", "bytes: 128KB").replace("rows: 16", "rows: 4 * 4").replace("cols: 16", "cols: 2k");
    let told: Vec<String> = faults(&text, &[]).iter().map(ToString::to_string).collect();
    assert!(told[0].contains("array.rows") && told[0].contains("(give the number: 16)"), "{told:#?}");
    assert!(told[1].contains("array.cols") && told[1].contains("found `2k` (what it is for: "), "{told:#?}");
    assert!(told[2].contains("(give bytes: 131072, or 128000 if a kilobyte is to have 1,000)"), "{told:#?}");
}

#[test]
fn what_is_legal_and_seldom_meant_is_a_warning() {
    let warned = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let (_, warnings) = load_with_warnings("edge_16x16", &sets).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = warned(&["array.rows=32"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("--set:1:12: array.rows: `array.rows` becomes 32, and `array.weight_load.cycles` stays 16")
    );
    assert!(told[0].contains("set `array.weight_load.cycles=32` too"), "{told:?}");
    let told = warned(&["accumulators.bits=24", "array.rows=16"]);
    assert!(told.len() == 1 && told[0].starts_with("--set:1:19: accumulators.bits: 24 bits"), "{told:?}");
    for sets in [&[][..], &["array.rows=32", "array.weight_load.cycles=8"], &["array.weight_load.cycles=8"]] {
        assert_eq!(warned(sets), Vec::<String>::new());
    }
    for preset in presets() {
        assert!(load_with_warnings(preset.name, &[]).unwrap().1.is_empty(), "{}", preset.name);
    }
}

#[test]
fn an_array_that_no_one_can_build_is_refused_with_the_reason() {
    let refused = |sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        load("edge_32x32", &sets).unwrap_err().to_string()
    };
    let skewed = refused(&["array.dataflows=[WS]", "array.accumulate=InjectSkewed"]);
    assert!(skewed.contains("set `array.output` to `Skewed`"), "{skewed}");
    let rows = refused(&["array.dataflows=[WS]", "array.accumulate=InjectRows", "array.output=Skewed"]);
    assert!(rows.contains("set `array.output` to `Deskewed`"), "{rows}");
    let stays = refused(&["array.accumulate=InjectRows"]);
    assert!(stays.contains("remove `OS` from `array.dataflows`"), "{stays}");
    let narrow = refused(&["array.dataflows=[WS]", "array.accumulate=InjectRows", "accumulators.bits=24"]);
    assert!(narrow.contains("takes sums of 32 bits from accumulators of 24"), "{narrow}");
    let chain = refused(&["array.weight_load.path=Chain", "array.weight_load.shadow_depth=2"]);
    assert!(chain.contains("a shift chain holds one tile, not 2"), "{chain}");
    let fifos = refused(&["array.count=2", "buffers.weight_fifo_tiles=4"]);
    assert!(fifos.contains("a weight FIFO for each of 2 arrays") && fifos.contains("`array.count` to 1"), "{fifos}");
    let load = refused(&["array.weight_load.cycles=0"]);
    assert!(load.contains("expected an integer from 1 to 65,536"), "{load}");
}

#[test]
fn a_machine_made_in_memory_is_checked_like_a_file() {
    let mut config = load("edge_16x16", &[]).unwrap().config;
    assert_eq!(Accelerator::new(&config).unwrap().config, config);
    config.array.weight_load.shadow_depth = 5;
    config.vector.placement = VectorPlacement::Fused;
    config.accumulators.bytes = 1;
    let found = Accelerator::new(&config).unwrap_err().to_string();
    for part in ["array.weight_load.shadow_depth", "vector.placement: not modelled yet: `Fused`", "accumulators.bytes"]
    {
        assert!(found.contains(part), "{part} in {found}");
    }
    assert!(std::panic::catch_unwind(|| Accelerator::from_valid(config)).is_err());
}

#[test]
fn broken_syntax_names_its_place() {
    let fault = only(&edited("rows: 16,", "rows: 16"), &[]);
    assert!(fault.starts_with("test.ron:8:9: expected `,` or `)` after the value of `rows`"), "{fault}");
    let text = text_of("edge_16x16");
    let cut = &text[..text.len() - 20];
    assert!(only(cut, &[]).contains("found the end of the text"));
    assert!(only("", &[]).contains("expected a value"));
    assert!(only(&format!("{text} x"), &[]).contains("expected nothing after the last parenthesis"));
}

#[test]
fn both_ways_to_write_a_shared_buffer_are_read() {
    let wrapped = read(text_of("edge_16x16"), &[]).unwrap();
    let flat = edited("Shared((bytes: 131072, banks: 4, word_bytes: 16))", "Shared(bytes: 131072, banks: 4)");
    assert_eq!(read(&flat, &[]).unwrap(), wrapped);
    let fault = only(&flat.replace("banks: 4", "banks: 0"), &[]);
    assert!(fault.contains("buffers.layout.Shared.banks"), "{fault}");
}

#[test]
fn overrides_set_any_field_and_the_last_one_counts() {
    let machine = read(
        text_of("edge_16x16"),
        &[
            "array.rows=64",
            "array.rows = 32",
            "array.dataflows=[os, WS]",
            "buffers.layout.Shared.bytes=65_536",
            "memories.0.model.Ideal.latency_ns=50",
            "memories[LPDDR4].model.Ideal.bandwidth_gb_per_s=10",
            "vector.cycles.Softmax=4",
            "vector.requantizer=FixedMul(bits: 16, max_shift: 31, rounding: HalfUp)",
            "depthwise=PerGroup",
            "name=a new name",
            "description=\"quoted\"",
            "host.overhead_us=0",
        ],
    )
    .unwrap();
    let config = &machine.config;
    assert_eq!(config.array.rows, 32);
    assert_eq!(config.array.dataflows, [Dataflow::OS, Dataflow::WS]);
    assert!(matches!(config.buffers.layout, BufferLayout::Shared(pool) if pool.bytes == 65_536));
    let MemoryModel::Ideal { bandwidth_gb_per_s, latency_ns, .. } = config.memories[0].model;
    assert_eq!((bandwidth_gb_per_s, latency_ns), (10.0, 50.0));
    assert_eq!(config.vector.cycles_of(VectorFunction::Softmax), Some(4));
    assert_eq!(config.depthwise, DepthwisePolicy::PerGroup);
    assert_eq!((config.name.as_str(), config.description.as_str()), ("a new name", "quoted"));
    assert_eq!(config.host.overhead_us, 0.0);
}

#[test]
fn an_override_can_change_a_variant_and_add_a_function() {
    let split = "buffers.layout=Split(input:(bytes:65536),weight:(bytes:65536),output:(bytes:32768))";
    let machine = read(text_of("gemmini_like"), &[split, "vector.cycles.AvgPool=2"]).unwrap();
    assert_eq!(machine.buffers.len(), 3);
    assert_eq!(machine.config.vector.cycles_of(VectorFunction::AvgPool), Some(2));
    let machine = load("gemmini_like", &[split.into(), "buffers.layout.Split.weight.banks=2".into()]).unwrap();
    assert_eq!(machine.buffers[1].banks, 2);
}

#[test]
fn faulty_overrides_say_what_was_meant() {
    let text = text_of("edge_16x16");
    for (set, expected) in [
        ("array.rowz=32", "did you mean `array.rows`?"),
        ("aray.rows=32", "did you mean `array.rows`?"),
        ("rows=32", "did you mean `array.rows`?"),
        ("latency_ns=1", "did you mean `memories.0.model.Ideal.latency_ns`?"),
        ("array.rows", "for example `array.rows=32`"),
        ("=3", "for example `array.rows=32`"),
        ("array.rows=x y", "expected an integer from 1 to 1,024, found `x y`"),
        ("array.rows=abc", "expected an integer from 1 to 1,024, found `abc`"),
        ("array.rows=", "expected an integer from 1 to 1,024"),
        ("array.rows=2.5", "found `2.5`"),
        ("array.rows.x=2", "`array.rows` has no field `x`"),
        ("array.dataflows=WS", "expected a list of 1 to 3 items in brackets"),
        ("array.dataflows=[WX]", "did you mean `WS`?"),
        ("buffers.layout.Split.input.bytes=1", "set it as a whole: `buffers.layout=Split(...)`"),
        ("buffers.layout.shraed.bytes=1", "did you mean `buffers.layout.Shared`?"),
        ("memories.1.bytes=1", "`memories` has `LPDDR4`, counted from 0"),
        ("vector.cycles.Sofmax=1", "name one of `Requantize`"),
        ("depthwise=Vector", "`Vector` needs fields in parentheses"),
        ("depthwise=Host(x: 1)", "`Host` has no fields"),
        ("array.clock_mhz=inf", "found a number that is infinite or not a number"),
        ("array.clock_mhz=20e3", "lower it to at most 10,000"),
        ("array.count=65", "lower it to at most 64"),
        ("buffers.weight_fifo_tiles=1025", "lower it to at most 1,024"),
        ("array.kind=DotTree", "not modelled yet: `DotTree` (use `Systolic`)"),
        ("vector.placement=fused", "not modelled yet: `Fused` (use `Separate`, `InStorePath`)"),
        ("array.weight_type=Int32", "expected one of `Int4`"),
        ("array.weight_type=Bf16", "make both integer or both float"),
        ("array.max_stream=2", ""),
        ("buffers.layout.Shared.bytes=256", "256 bytes cannot hold one array tile's operands and outputs: 480 bytes"),
        ("accumulators.bytes=32", "32 bytes cannot hold one array tile's partial sums: 64 bytes"),
        ("placement.weights=LPDR4", "did you mean `LPDDR4`?"),
    ] {
        if expected.is_empty() {
            read(text, &[set]).unwrap();
            continue;
        }
        let fault = only(text, &[set]);
        assert!(fault.starts_with("--set:1:"), "{set}: {fault}");
        assert!(fault.contains(expected), "{set}: {fault}");
    }
    assert_eq!(faults(text, &["array.rows=0", "array.cols=0", "x=1"]).len(), 3);
}

#[test]
fn sweeps_lay_overrides_over_a_config_that_was_read() {
    let base = load("edge_32x32", &[]).unwrap();
    let changed = with_overrides(&base.config, &["array.rows=8".into()]).unwrap();
    assert_eq!(changed.config.array.rows, 8);
    assert_eq!(with_overrides(&base.config, &[]).unwrap(), base);
    let fault = with_overrides(&base.config, &["array.rows=0".into(), "array.colz=1".into()]).unwrap_err();
    assert_eq!(fault.0.len(), 2);
}

#[test]
fn a_misspelt_preset_is_suggested_and_a_missing_file_is_named() {
    let fault = load("edge_16x61", &[]).unwrap_err().to_string();
    assert!(fault.contains("did you mean the preset `edge_16x16`?"), "{fault}");
    let fault = load("no/such/file.ron", &[]).unwrap_err().to_string();
    assert!(fault.starts_with("no/such/file.ron: cannot open the config"), "{fault}");
    assert!(load(".", &[]).is_err());
}

#[test]
fn files_that_are_not_configs_are_refused_quickly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.ron");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let name = path.to_str().unwrap();
    assert!(load(name, &[]).unwrap_err().to_string().contains("byte 0 is not UTF-8"));
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(load(name, &[]).unwrap_err().to_string().contains("larger than 1,048,576 bytes"));
    std::fs::write(&path, text_of("edge_16x16")).unwrap();
    assert_eq!(load(name, &[]).unwrap(), load("edge_16x16", &[]).unwrap());
}

#[test]
fn bombs_are_refused_quickly() {
    let start = std::time::Instant::now();
    let large = 1 << 20;
    for text in [
        "(".repeat(large),
        "[".repeat(large),
        "a(".repeat(large / 2),
        "(a:".repeat(large / 3),
        "/*".repeat(large / 2),
        "\"".to_owned() + &"\\".repeat(large - 1),
        format!("(memories: [{}])", "(),".repeat(large / 4)),
        format!("({})", "x:1,".repeat(large / 5)),
        format!("({}: 1)", "x".repeat(large - 10)),
        format!("(name: {})", "9".repeat(large - 10)),
        format!("(array: (dataflows: [{}]))", "WS,".repeat(large / 4)),
    ] {
        let found = faults(&text, &[]);
        assert!(found.len() <= 101, "{}", found.len());
        assert!(found.iter().all(|fault| fault.to_string().len() < 1000), "{text:.20}");
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// The preset with every number replaced.
fn with_numbers(value: &mut Value, number: &dyn Fn(bool) -> Value) {
    match value {
        Value::Number(old) => *value = number(old.is_f64()),
        Value::Array(items) => items.iter_mut().for_each(|item| with_numbers(item, number)),
        Value::Object(object) => object.values_mut().for_each(|item| with_numbers(item, number)),
        _ => {}
    }
}

#[test]
fn numbers_at_zero_and_at_their_largest_are_errors_or_machines() {
    for preset in presets() {
        let machine = load(preset.name, &[]).unwrap();
        let zero = |float: bool| if float { 0.0.into() } else { 0.into() };
        let huge = |float: bool| if float { f64::MAX.into() } else { u64::MAX.into() };
        let wide = |float: bool| if float { f64::MAX.into() } else { u8::MAX.into() };
        for number in [&zero as &dyn Fn(bool) -> Value, &huge, &wide] {
            let mut value = serde_json::to_value(&machine.config).unwrap();
            with_numbers(&mut value, number);
            let text = ron_of(&value);
            let found = faults(&text, &[]);
            assert!(found.len() > 10, "{}", Faults(found));
        }
    }
}

/// JSON as RON, as far as configs need it.
fn ron_of(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() == 2 && items[0].is_string() && items[1].is_number() => {
            format!("({}, {})", ron_of(&items[0]), items[1])
        }
        Value::Array(items) => format!("[{}]", items.iter().map(ron_of).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            if let Some((name, content)) = object.iter().next().filter(|(name, _)| name.starts_with(char::is_uppercase))
            {
                return format!("{name}{}", ron_of(content));
            }
            let field = |(key, value): (&String, &Value)| format!("{key}: {}", ron_of(value));
            format!("({})", object.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) if text.contains([' ', '_']) || text.is_empty() || text.starts_with("LPD") => {
            format!("\"{text}\"")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every leaf of a config's JSON, with `*` for list positions.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                leaves(&fields::join(path, key), value, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                leaves(&fields::join(path, "*"), item, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_every_preset_is_in_the_table() {
    let known: Vec<String> = fields::rows().into_iter().map(|row| row.path).collect();
    for preset in presets() {
        let mut found = Vec::new();
        leaves("", &serde_json::to_value(load(preset.name, &[]).unwrap().config).unwrap(), &mut found);
        assert!(found.len() > 60);
        for path in found {
            assert!(known.contains(&path), "{path} is missing from the table of fields");
        }
    }
}

#[test]
fn fields_that_are_left_out_have_the_defaults_of_the_page() {
    // Only what must be given.
    let text = "(name: \"x\", array: (rows: 4, cols: 4, clock_mhz: 1, dataflows: [WS], input_type: Int8, \
         weight_type: Int8, weight_load: (cycles: 4, shadow_depth: 0)), buffers: (layout: Shared((bytes: 4096))), \
         accumulators: (bytes: 4096), dma: (bytes_per_cycle: 1, burst_bytes: 1, bursts_in_flight: 1), \
         memories: [(name: \"m\", model: Ideal(bandwidth_gb_per_s: 1, latency_ns: 0))], \
         placement: (weights: \"m\", activations: \"m\"), vector: (lanes: 1, cycles: [(Requantize, 1)]))";
    let machine = read(text, &[]).unwrap();
    // Kept from a record: another hash is another default or another order of fields.
    assert_eq!(format!("{:016x}", hash(&machine)), "732ad21553d415b2");
    assert_eq!((machine.config.control.queue_depth, machine.config.host.overhead_us), (8, 5.0));
}

#[test]
fn every_range_of_the_table_is_enforced_at_both_ends() {
    let base = load("edge_16x16", &[]).unwrap().config;
    let refused = |path: &str, value: String| {
        let set = format!("{}={value}", path.replace('*', "0"));
        match with_overrides(&base, std::slice::from_ref(&set)) {
            Ok(_) => false,
            Err(faults) => faults.0.iter().any(|fault| fault.message.starts_with("expected ")),
        }
    };
    let mut enforced = 0;
    for row in fields::rows() {
        if row.path.contains("Split") || row.path.contains("FixedMul") {
            continue;
        }
        match &row.field.kind {
            fields::Kind::Integer { min, max, .. } => {
                assert!(!refused(&row.path, min.to_string()) && !refused(&row.path, max.to_string()), "{}", row.path);
                assert!(refused(&row.path, (max + 1).to_string()), "{}", row.path);
                assert!(*min == 0 || refused(&row.path, (min - 1).to_string()), "{}", row.path);
            }
            fields::Kind::Number { min, max, .. } => {
                assert!(!refused(&row.path, min.to_string()) && !refused(&row.path, max.to_string()), "{}", row.path);
                assert!(refused(&row.path, (max * 1.001).to_string()), "{}", row.path);
                assert!(refused(&row.path, (min * 0.999 - 1e-9).to_string()), "{}", row.path);
            }
            _ => continue,
        }
        enforced += 1;
    }
    assert!(enforced > 35, "{enforced}");
}

#[test]
fn the_hash_is_of_the_machine_and_not_of_its_text() {
    let text = text_of("edge_16x16");
    let first = hash(&read(text, &[]).unwrap());
    assert_eq!(first, hash(&read(&text.replace("rows: 16", "rows: 0x10 /* same */"), &[]).unwrap()));
    assert_ne!(first, hash(&read(text, &["array.rows=17"]).unwrap()));
    assert_eq!(first, hash(&load("edge_16x16", &[]).unwrap()));
}

/// Kept from records: another hash is another default or another order of fields.
#[test]
fn the_hashes_of_presets_are_those_of_records_that_exist() {
    let hashes = ["66b2f872ec20097a", "d7d09696684af8f1", "d3f051df8167520a", "f7e794c99fc37af5", "7817583605926baa"];
    for (preset, expected) in presets().iter().zip(hashes) {
        assert_eq!(format!("{:016x}", hash(&load(preset.name, &[]).unwrap())), expected, "{}", preset.name);
    }
}

#[test]
fn inputs_and_outputs_lie_with_the_activations_unless_placed() {
    let machine = load("tpu_v1_like", &[]).unwrap();
    assert_eq!([machine.input_memory, machine.output_memory], [machine.activation_memory; 2]);
    let machine = load("tpu_v1_like", &["placement.outputs=DDR3".into()]).unwrap();
    assert_eq!(machine.output_memory, machine.weight_memory);
    let faults = load("tpu_v1_like", &["placement.inputs=DDR".into()]).unwrap_err().0;
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].path.as_deref(), Some("placement.inputs"));
    // One misspelt name is one fault, although inputs and outputs follow the activations.
    assert_eq!(load("tpu_v1_like", &["placement.activations=DDR".into()]).unwrap_err().0.len(), 1);
}

#[test]
fn not_modelled_numbers_are_listed_when_they_are_set() {
    assert!(not_modelled(&load("edge_16x16", &[]).unwrap()).is_empty());
    let machine = load("edge_16x16", &["accumulators.banks=4".into(), "accumulators.ports=1".into()]).unwrap();
    let list = not_modelled(&machine);
    assert_eq!(list.len(), 2, "{list:?}");
    assert!(list[0].starts_with("accumulators.banks = 4: "));
    let sets = ["dma.zero_fill=false", "dma.channel_brick=32", "dma.strides=false"];
    let list = not_modelled(&load("edge_16x16", &sets.map(String::from)).unwrap());
    assert_eq!(list.len(), 2, "{list:?}");
    assert!(list[0].starts_with("dma.zero_fill = false: "));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Pieces of a preset cut, doubled, swapped for hostile tokens: an error or a machine, never a panic.
    #[test]
    fn hostile_texts_never_panic(
        preset in 0_usize..5,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, 0_usize..24), 1..6),
        set in "[a-z]{0,6}(\\.[a-zA-Z0-9]{0,5}|\\[[0-9]\\]){0,3}=?[-0-9a-zA-Z(\\[\":,]{0,8}",
    ) {
        const TOKENS: [&str; 24] = [
            "", "(", ")", "[", "]", ",", ":", "\"", "'", "0", "-1", "18446744073709551616", "1e400", "NaN", "-inf",
            "()", "[[", "r#\"", "/*", "é\u{0}", "Vector", "#![enable(", "rows: 3,", "None",
        ];
        let mut text: Vec<char> = presets()[preset].text.chars().collect();
        for (at, length, token) in edits {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, TOKENS[token].chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = read(&text, &[&set]) {
            prop_assert!(!faults.0.is_empty());
            for fault in &faults.0 {
                let _ = (fault.to_string(), fault.line_column());
                if let Some((source, range)) = &fault.span {
                    prop_assert!(source.text.get(range.clone()).is_some(), "{:?}", range);
                }
            }
        }
    }

    /// Any numbers in any fields: an error or a machine.
    #[test]
    fn hostile_numbers_never_panic(
        sets in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<f64>(), 0_u32..64), 1..5)
    ) {
        let rows: Vec<String> = fields::rows().into_iter().map(|row| row.path.replace('*', "0")).collect();
        let base = load("edge_16x16", &[]).unwrap().config;
        let overrides: Vec<String> = sets.iter().map(|(at, integer, float, shift)| {
            let path = &rows[at.index(rows.len())];
            if integer % 3 == 0 { format!("{path}={float:e}") } else { format!("{path}={}", integer >> shift) }
        }).collect();
        let _ = with_overrides(&base, &overrides);
    }
}
