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
    Rung { what: "streams shorter than 16 rows (#87)", published: Some(46.0), without: Some("array.min_stream=16") },
    Rung {
        what: "global average off the core (#90)",
        published: Some(51.0),
        without: Some("vector.cycles=[(Requantize, 1), (Add, 1), (MaxPool, 1), (Copy, 1)]"),
    },
    Rung { what: "not described in public (#91)", published: Some(54.0), without: None },
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

/// The machine before each of what the conv-loops do to the array, one at a time and together.
const CAUSES: [(&str, &[&str]); 4] = [
    ("the preset", &[]),
    ("tiles cross output rows", &["array.row_ends=Cross"]),
    ("kernel and channels fill the rows", &["array.k_packing=KernelAndChannels"]),
    ("both", &["array.row_ends=Cross", "array.k_packing=KernelAndChannels"]),
];

fn percent(result: &RunResult) -> f64 {
    100.0 * result.totals.array_utilization
}

/// Cycles by thousands.
fn thousands(cycles: u64) -> String {
    let digits = cycles.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn table(rungs: &[&RunResult], causes: &[&RunResult]) -> String {
    let mut text = String::from(
        "| step | `--set` that takes it back | cycles | step | utilization | published | step | ours to theirs |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let step = |now: f64, before: Option<f64>| before.map_or(String::new(), |before| format!("{:+.1}", now - before));
    for (index, (rung, result)) in LADDER.iter().zip(rungs).enumerate() {
        let ours = percent(result);
        let below = index.checked_sub(1);
        let without = rung.without.map_or("no counterpart".to_string(), |set| format!("`{set}`"));
        let without = if index == 0 { String::new() } else { without };
        let [published, published_step, ratio] = rung.published.map_or([const { String::new() }; 3], |theirs| {
            let before = below.and_then(|below| LADDER[below].published);
            [format!("{theirs:.1} %"), step(theirs, before), format!("{:.2}", ours / theirs)]
        });
        let own_step = step(ours, below.map(|below| percent(rungs[below])));
        writeln!(
            text,
            "| {} | {without} | {} | {own_step} | {ours:.1} % | {published} | {published_step} | {ratio} |",
            rung.what,
            thousands(result.totals.cycles),
        )
        .unwrap();
    }
    text.push_str("\n| array tiles | beats | to the last | utilization |\n|---|---:|---:|---:|\n");
    let beats = |result: &RunResult| result.layers.iter().map(|row| row.beats).sum::<u64>();
    let least = causes.last().map_or(1, |result| beats(result));
    for ((what, _), result) in CAUSES.iter().zip(causes) {
        let beats = beats(result);
        let ratio = beats as f64 / least as f64;
        writeln!(text, "| {what} | {} | x{ratio:.2} | {:.1} % |", thousands(beats), percent(result)).unwrap();
    }
    text
}

const BEGIN: &str = "<!-- the ladder, written by tests/suite/ladder.rs -->\n";
const END: &str = "<!-- end of the ladder -->\n";

#[test]
fn every_step_of_gemminis_ladder_helps_and_the_page_says_how_far_it_is() {
    let rungs: Vec<Vec<String>> = (0..LADDER.len()).map(overrides).collect();
    let causes = CAUSES.map(|(_, sets)| sets.iter().map(ToString::to_string).collect::<Vec<_>>());
    // Rungs without a counterpart are those below them.
    let machines: BTreeSet<&Vec<String>> = rungs.iter().chain(&causes).collect();
    let results: BTreeMap<_, _> = machines.into_par_iter().map(|machine| (machine, run(machine))).collect();
    let rungs: Vec<&RunResult> = rungs.iter().map(|machine| &results[machine]).collect();
    let causes: Vec<&RunResult> = causes.iter().map(|machine| &results[machine]).collect();
    let table = table(&rungs, &causes);
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
