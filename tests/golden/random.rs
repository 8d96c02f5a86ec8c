//! Networks and machines drawn from a number, the same for ever: golden files depend on them.

use std::fmt::Write as _;

/// How many cases there are.
pub const CASES: u64 = 30;

/// A network on a machine.
pub struct Case {
    /// The machine's base.
    pub preset: &'static str,
    /// What is changed in it.
    pub overrides: Vec<String>,
    /// A layer list's text.
    pub network: String,
}

/// `splitmix64` (Steele, Lea and Flood 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn pick(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.pick(0, of.len() as u64 - 1)).expect("an index")]
    }
}

/// The case of a number.
pub fn case(seed: u64) -> Case {
    let mut draw = Draw(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let preset = draw.one(&["edge_16x16", "edge_32x32", "gemmini_like"]);
    Case { preset, overrides: machine(&mut draw, preset), network: network(&mut draw, seed) }
}

fn machine(draw: &mut Draw, preset: &str) -> Vec<String> {
    // The vector unit of `gemmini_like` has no depthwise function.
    let depthwise: &[&str] = match preset {
        "gemmini_like" => &["PerGroup", "BlockDiagonal", "Host"],
        _ => &["PerGroup", "BlockDiagonal", "Host", "Vector(macs_per_cycle: 8)"],
    };
    let (rows, cols) = (draw.pick(2, 40), draw.pick(2, 40));
    let dataflows = draw.one(&["[WS]", "[OS]", "[IS]", "[WS, OS]", "[WS, IS]", "[WS, OS, IS]"]);
    let shadow = draw.pick(0, 1);
    let buffer = draw.pick(8, 64) * 2048;
    vec![
        format!("array.rows={rows}"),
        format!("array.cols={cols}"),
        format!("array.weight_load.cycles={}", draw.pick(1, rows)),
        format!("array.weight_load.shadow_depth={shadow}"),
        format!("array.dataflows={dataflows}"),
        format!("array.overlap_tiles={}", draw.one(&["true", "false"])),
        format!("array.min_stream={}", draw.pick(1, 8)),
        format!("array.max_stream={}", draw.one(&[0, 0, 16, 50])),
        format!("array.pe_registers={}", draw.pick(0, 2)),
        format!("array.k_packing={}", draw.one(&["KernelAndChannels", "Channels"])),
        format!("accumulators.bytes={}", draw.pick(4, 32) * 1024),
        format!("buffers.layout=Shared((bytes: {buffer}, banks: 4, word_bytes: {}))", draw.one(&[16, 32, 64])),
        format!("buffers.double_buffering={}", draw.one(&["true", "true", "false"])),
        format!("dma.bytes_per_cycle={}", draw.one(&[4, 8, 32])),
        format!("dma.burst_bytes={}", draw.one(&[16, 32, 64])),
        format!("dma.bursts_in_flight={}", draw.pick(1, 12)),
        format!("vector.lanes={}", draw.one(&[4, 8, 16])),
        format!("depthwise={}", draw.one(depthwise)),
        format!("residency={}", draw.one(&["true", "false"])),
        format!("control.issue_cycles={}", draw.pick(0, 20)),
        format!("control.queue_depth={}", draw.pick(1, 8)),
    ]
}

fn network(draw: &mut Draw, seed: u64) -> String {
    let (mut channels, mut height, mut width) = (draw.pick(1, 20), draw.pick(6, 22), draw.pick(6, 22));
    let mut text = format!(
        "(\n    name: \"random{seed}\",\n    input: (shape: [{channels}, {height}, {width}], scale: 0.02, zero: {}),\n    layers: [\n",
        draw.pick(0, 255)
    );
    let layers = draw.pick(3, 7);
    let mut before: Option<(u64, [u64; 3])> = None;
    for index in 0..layers {
        let shape = [channels, height, width];
        let activation = draw.one(&["None", "Relu", "Relu6"]);
        let (scale, zero) = (draw.one(&["0.011", "0.02", "0.037"]), draw.pick(0, 200));
        let kernel = draw.one(&[1, 1, 2, 3]).min(height).min(width);
        let (stride, pad) = (draw.pick(1, 2), kernel / 2);
        let window = |size: u64| (size + 2 * pad - kernel) / stride + 1;
        let op = match draw.pick(0, 9) {
            0..=4 => {
                let groups = if channels % 2 == 0 && draw.pick(0, 4) == 0 { 2 } else { 1 };
                channels = draw.pick(1, 24) * groups;
                (height, width) = (window(height), window(width));
                format!(
                    "Conv(out: {channels}, kernel: {kernel}, stride: {stride}, pad: {pad}, groups: {groups}, activation: {activation})"
                )
            }
            5 | 6 => {
                (height, width) = (window(height), window(width));
                format!("Depthwise(kernel: {kernel}, stride: {stride}, pad: {pad}, activation: {activation})")
            }
            7 => {
                (height, width) = (window(height), window(width));
                format!("MaxPool(kernel: {kernel}, stride: {stride}, pad: {pad})")
            }
            8 => {
                (height, width) = (window(height), window(width));
                format!("AvgPool(kernel: {kernel}, stride: {stride}, pad: {pad})")
            }
            _ => match before {
                Some((_, earlier)) if earlier == shape => "Add()".to_owned(),
                _ => format!("Conv(out: {channels}, kernel: 1, activation: {activation})"),
            },
        };
        write!(text, "        (name: \"l{index}\", op: {op}").expect("text");
        if op == "Add()" {
            let (earlier, _) = before.expect("matched");
            write!(text, ", from: [\"l{}\", \"l{earlier}\"]", index - 1).expect("text");
        }
        if op.starts_with("Conv") || op.starts_with("Depthwise") {
            text += ", weight: 0.004";
        }
        if !op.starts_with("MaxPool") {
            write!(text, ", scale: {scale}, zero: {}", if activation == "None" { zero } else { 0 }).expect("text");
        }
        text += "),\n";
        if index > 0 && draw.pick(0, 1) == 0 {
            before = Some((index, [channels, height, width]));
        }
    }
    if draw.pick(0, 1) == 0 {
        text += "        (name: \"flat\", op: Flatten),\n";
        writeln!(
            text,
            "        (name: \"fc\", op: FullyConnected(out: {}), weight: 0.003, scale: 0.1, zero: 100),",
            draw.pick(2, 60)
        )
        .expect("text");
    }
    text += "    ],\n)\n";
    text
}
