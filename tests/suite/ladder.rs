//! The published ladder of Gemmini (ucb-bar/gemmini, February to March 2021, ResNet-50 in int8 at batch 4 on 16x16): each
//! step taken back by a config field. A test of direction and size, not of equality: every step must help, and
//! `docs/validation.md` keeps the table of how far each total lies from the published one.
//! `UPDATE_DOCS=1 cargo test --release --test suite ladder` writes it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use systole::{
    config,
    pipeline::{Options, evaluate, load_model},
    result::RunResult,
    units::thousands,
};

/// One state of the machine.
struct Rung {
    /// What changed on the way to it, and where it is said.
    what: &'static str,
    /// Array utilization in percent, where one was published.
    published: Option<f64>,
    /// The field that takes the step back, as `--set` on the machine above; none where no field is its counterpart.
    without: Option<&'static str>,
}

/// From the bottom. Each rung is the preset with all that stands above it taken back.
const LADDER: [Rung; 7] = [
    Rung { what: "every command issued by the core", published: None, without: None },
    Rung {
        what: "loops of convolutions and products in hardware (#69)",
        published: Some(40.0),
        without: Some("control.hardware_loops=false"),
    },
    Rung {
        what: "the idle array flushes only when output stationary (#85)",
        published: Some(41.7),
        without: Some("array.flush_idle=true"),
    },
    Rung { what: "weights stay for all pixels of a tile (#86)", published: Some(43.0), without: None },
    Rung { what: "streams shorter than 16 rows (#87)", published: Some(46.0), without: Some(BEFORE_SHORT_STREAMS) },
    Rung {
        what: "global average off the core (#90)",
        published: Some(51.0),
        without: Some("vector.cycles=[(Requantize, 1), (Add, 1), (MaxPool, 1), (Copy, 1)]"),
    },
    Rung { what: "what was done is not known to us (#91)", published: Some(54.0), without: None },
];

/// The preset at a rung of the ladder, or with other fields set.
fn run(overrides: &[String]) -> RunResult {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet50.ron");
    let options = Options { requantize: true, no_execute: true, ..Options::default() };
    let machine = config::load("gemmini_like", overrides).unwrap();
    evaluate(&load_model(&path, Some(4)).unwrap(), &machine, &options).unwrap()
}

/// What takes back all steps above a rung.
fn overrides(rung: usize) -> Vec<String> {
    LADDER[rung + 1..].iter().filter_map(|above| above.without.map(str::to_string)).collect()
}

/// How the array's tiles are cut, apart from the ladder: rows and the packing of K.
const TILES: [(&str, &[&str]); 5] = [
    ("the preset: windows stop at output rows, channels alone fill the array's rows", &[]),
    ("every convolution stops", &["array.row_ends=Stop"]),
    ("none stops", &["array.row_ends=Cross"]),
    ("kernel positions fill rows too", &["array.k_packing=KernelAndChannels"]),
    ("both of these", &["array.row_ends=Cross", "array.k_packing=KernelAndChannels"]),
];

/// Before #87 a command took 16 rows' time, however few rows it had.
const BEFORE_SHORT_STREAMS: &str = "array.min_stream=16";

fn percent(result: &RunResult) -> f64 {
    100.0 * result.totals.array_utilization
}

/// What a step takes off the cycles, in percent with its sign.
fn step(before: f64, after: f64) -> String {
    format!("{:+.1} %", 100.0 * (after / before - 1.0))
}

fn table(rungs: &[&RunResult], tiles: &[&RunResult]) -> String {
    let mut text = String::from(
        "| step | `--set` that takes it back | utilization | published | ours to theirs | cycles | of the step | published |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (index, (rung, result)) in LADDER.iter().zip(rungs).enumerate() {
        let (ours, cycles) = (percent(result), result.totals.cycles);
        let [mut set, mut own_step, mut published, mut ratio, mut published_step] = [const { String::new() }; 5];
        if let Some(below) = index.checked_sub(1) {
            set = rung.without.map_or("no counterpart".into(), |set| format!("`{set}`"));
            own_step = step(rungs[below].totals.cycles as f64, cycles as f64);
            if let (Some(before), Some(after)) = (LADDER[below].published, rung.published) {
                // The work is the same: cycles are as the reciprocal of the utilization.
                published_step = step(after, before);
            }
        }
        if let Some(theirs) = rung.published {
            published = format!("{theirs:.1} %");
            ratio = format!("{:.2}", ours / theirs);
        }
        let (what, cycles) = (rung.what, thousands(cycles));
        writeln!(
            text,
            "| {what} | {set} | {ours:.1} % | {published} | {ratio} | {cycles} | {own_step} | {published_step} |"
        )
        .unwrap();
    }
    text.push_str(
        "\n| array tiles | cycles | utilization | cycles with `array.min_stream=16` | utilization |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for ((what, _), pair) in TILES.iter().zip(tiles.chunks(2)) {
        write!(text, "| {what} |").unwrap();
        for result in pair {
            write!(text, " {} | {:.1} % |", thousands(result.totals.cycles), percent(result)).unwrap();
        }
        text.push('\n');
    }
    text
}

const BEGIN: &str = "<!-- the ladder, written by tests/suite/ladder.rs -->\n";
const END: &str = "<!-- end of the ladder -->\n";

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "a minute of both cores in the dev profile: cargo test --release --test suite ladder"
)]
fn every_step_of_gemminis_ladder_helps_and_the_page_says_how_far_it_is() {
    let rungs: Vec<Vec<String>> = (0..LADDER.len()).map(overrides).collect();
    let tiles: Vec<Vec<String>> = TILES
        .iter()
        .flat_map(|(_, sets)| [sets.to_vec(), [sets, &[BEFORE_SHORT_STREAMS][..]].concat()])
        .map(|sets| sets.into_iter().map(str::to_string).collect())
        .collect();
    // Rungs without a counterpart are those below them.
    let machines: BTreeSet<&Vec<String>> = rungs.iter().chain(&tiles).collect();
    let results: BTreeMap<_, _> = machines.into_par_iter().map(|machine| (machine, run(machine))).collect();
    let rungs: Vec<&RunResult> = rungs.iter().map(|machine| &results[machine]).collect();
    let tiles: Vec<&RunResult> = tiles.iter().map(|machine| &results[machine]).collect();
    let table = table(&rungs, &tiles);
    println!("{table}");
    for (index, pair) in rungs.windows(2).enumerate() {
        let [before, after] = [pair[0], pair[1]].map(|result| result.totals.cycles);
        let Rung { what, without, .. } = &LADDER[index + 1];
        if without.is_some() {
            assert!(after < before, "{what}: {before} cycles before and {after} after");
        } else {
            assert_eq!(after, before, "{what} has no counterpart");
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validation.md");
    let text = fs::read_to_string(&page).unwrap();
    let begin = text.find(BEGIN).expect("the page has a place for the ladder") + BEGIN.len();
    let end = text.find(END).expect("the place for the ladder ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, format!("{}{table}{}", &text[..begin], &text[end..])).unwrap();
        return;
    }
    assert_eq!(text[begin..end], table, "UPDATE_DOCS=1 cargo test --release --test suite ladder");
}
