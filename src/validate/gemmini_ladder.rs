//! The published ladder of Gemmini (ucb-bar/gemmini, February to March 2021, ResNet-50 in int8 at batch 4 on 16x16): each step taken
//! back by a config field. Direction and size, not equality: every step must help.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::{Findings, Kind, Published, Row, Settings, Source};
use crate::{
    config,
    diag::Progress,
    import,
    pipeline::{Failure, Model, Options, evaluate},
    result::Totals,
    units::thousands,
};

pub(super) const SOURCE: Source = Source {
    name: "gemmini_ladder",
    title: "Gemmini's ladder",
    kind: Kind::External,
    is_exact: false,
    is_quick: false,
    about: "ResNet-50 in int8 at batch 4 on `gemmini_like` with `--requantize`, `--no-execute`. In February and March 2021 ucb-bar/gemmini \
            published the share of peak at which it ran, as single features were added. Each is a config field here, and a step is taken \
            back by setting it, with all steps above it taken back too. Values that have no source are marked as ours in \
            `configs/gemmini_like.ron`: `issue_cycles`, the rate of the host, the latencies and the costs of a layer's launch and fence.",
    run,
};

/// The network, as it comes with the program.
const RESNET50: &str = include_str!("../../models/resnet50.ron");
const BATCH: usize = 4;

/// One state of the machine.
struct State {
    /// What changed on the way to it.
    what: &'static str,
    /// The pull request that changed it; 0 where none did.
    pull_request: u64,
    /// The field that takes the step back, as `--set` on the machine above; none where no field is its counterpart.
    without: Option<&'static str>,
}

/// From the bottom. Each is the preset with all that stands above it taken back.
const STATES: [State; 7] = [
    State { what: "every command issued by the core", pull_request: 0, without: None },
    State {
        what: "loops of convolutions and products in hardware (#69)",
        pull_request: 69,
        without: Some("control.hardware_loops=false"),
    },
    State {
        what: "the idle array flushes only when output stationary (#85)",
        pull_request: 85,
        without: Some("array.flush_idle=true"),
    },
    State { what: "weights stay for all pixels of a tile (#86)", pull_request: 86, without: None },
    State { what: "streams shorter than 16 rows (#87)", pull_request: 87, without: Some(BEFORE_SHORT_STREAMS) },
    State {
        what: "global average off the core (#90)",
        pull_request: 90,
        without: Some("vector.cycles=[(Requantize, 1), (Add, 1), (MaxPool, 1), (Copy, 1)]"),
    },
    State { what: "what was done is not known to us (#91)", pull_request: 91, without: None },
];

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

/// The ladder, timed.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// By state, from the bottom.
    rungs: Vec<Totals>,
    /// By row of [`TILES`], without and with `array.min_stream=16`.
    tiles: Vec<Totals>,
}

/// A step of the ladder, in cycles of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub what: &'static str,
    /// Whether a config field is its counterpart.
    pub has_counterpart: bool,
    /// Cycles before and after it.
    pub cycles: [u64; 2],
}

impl Ladder {
    /// Times ResNet-50 on every state of the machine.
    ///
    /// # Errors
    /// What the pipeline finds.
    pub fn climb() -> Result<Self, Failure> {
        let overrides = |state: usize| -> Vec<String> {
            STATES[state + 1..].iter().filter_map(|above| above.without.map(str::to_string)).collect()
        };
        let rungs: Vec<Vec<String>> = (0..STATES.len()).map(overrides).collect();
        let tiles: Vec<Vec<String>> = TILES
            .iter()
            .flat_map(|(_, sets)| [sets.to_vec(), [sets, &[BEFORE_SHORT_STREAMS][..]].concat()])
            .map(|sets| sets.into_iter().map(str::to_string).collect())
            .collect();
        // Steps without a counterpart leave the machine as it was.
        let machines: BTreeSet<&Vec<String>> = rungs.iter().chain(&tiles).collect();
        let model = Model { graph: import::ron::parse(RESNET50, "resnet50", Some(BATCH))?, hash: 0 };
        let options = Options { requantize: true, no_execute: true, ..Options::default() };
        let timed: BTreeMap<_, _> = machines
            .into_par_iter()
            .map(|sets| {
                let machine = config::load("gemmini_like", sets)?;
                Ok((sets, evaluate(&model, &machine, &options)?.totals))
            })
            .collect::<Result<_, Failure>>()?;
        let of = |all: &[Vec<String>]| all.iter().map(|sets| timed[sets].clone()).collect();
        Ok(Self { rungs: of(&rungs), tiles: of(&tiles) })
    }

    /// The steps, from the bottom.
    pub fn steps(&self) -> Vec<Step> {
        let cycles = self.rungs.windows(2).map(|pair| [pair[0].cycles, pair[1].cycles]);
        STATES[1..]
            .iter()
            .zip(cycles)
            .map(|(state, cycles)| Step { what: state.what, has_counterpart: state.without.is_some(), cycles })
            .collect()
    }

    /// Beside the published figures.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn findings(&self, published: &Published) -> Result<Findings, Failure> {
        let table = published.table("gemmini_ladder.csv")?;
        let mut theirs: BTreeMap<u64, f64> = BTreeMap::new();
        for line in table.lines() {
            theirs.insert(line.count("pull_request")?, line.real("utilization")?);
        }
        let mut found = Findings::default();
        for (state, totals) in STATES.iter().zip(&self.rungs) {
            if let Some(&theirs) = theirs.get(&state.pull_request) {
                found.rows.push(Row::of(state.what, "utilization, %", percent(totals), theirs));
            }
        }
        let ratios = found.rows.iter().filter_map(|row| row.compared()?.shown).map(|[ours, theirs]| ours / theirs);
        let [low, high] = ratios.fold([f64::INFINITY, 0.0], |[low, high], ratio| [ratio.min(low), ratio.max(high)]);
        found.notes = self.notes(low, high);
        found.more = self.more(&theirs);
        Ok(found)
    }

    /// Why the totals differ, which lie `low` to `high` times above the published ones.
    fn notes(&self, low: f64, high: f64) -> Vec<String> {
        let steps = self.steps();
        let of = |issue: &str| steps.iter().find(|step| step.what.contains(issue)).map_or([0, 0], |step| step.cycles);
        let [before, after] = of("(#85)");
        let flush = thousands(before.saturating_sub(after));
        let [before, after] = of("(#87)").map(|cycles| cycles as f64);
        let short = 100.0 * (1.0 - after / before.max(1.0));
        // Rows of TILES: the preset, every convolution stops, none does; without and with streams of 16 rows at least.
        let stop = |row: usize, column: usize| {
            let cycles = |row: usize| self.tiles.get(2 * row + column).map_or(0, |totals| totals.cycles) as f64;
            100.0 * (cycles(row) / cycles(2).max(1.0) - 1.0)
        };
        let (some, every, now) = (stop(0, 1), stop(1, 1), stop(1, 0));
        vec![
            format!(
                "The totals lie {low:.1} to {high:.1} times above the published ones. Steps are in the table above: each that has a counterpart \
                 helps."
            ),
            "#69, #86: at 40 % the loops of convolutions were in hardware already, so the step from a core that issues every command has no \
             published size. #86 changed their order so that weights stay for all pixels; its author expected no effect on time. No field has \
             the other order; by the law a load of 16 cycles hides behind a stream that takes 16 in either."
                .to_owned(),
            format!(
                "#85: an array that waits for a tile is rare here, as loads run ahead by a whole buffer tile and no command waits for a \
                 translation of its address. The step has the direction and not the size: {flush} cycles in all."
            ),
            format!("#87: {short:.0} % here; with #86, which makes it possible, 9 % published."),
            "#90: the published step is about 34 cycles of the core for each of 401,408 taps, whose bytes stand 2,048 apart; \
             `host.elements_per_ns` has 10, which is ours and not fitted to it."
                .to_owned(),
            "#91: only the figure is known to us.".to_owned(),
            "Not modelled: the second-level cache and address translation in front of the memory; the tiles of Gemmini's library (the \
             mapping here is the one that the search finds best); entries of the reservation station that wait for each other's \
             addresses; that weights enter behind the last stream of the operand before only. The other way round, max pooling is fused \
             into `conv1` there and a layer of its own here."
                .to_owned(),
            format!(
                "Stopping at an output row costs what the shortest stream makes it cost: with 16 rows' time for every command {some:.0} % \
                 ({every:.0} % if every convolution stops), with 4 rows' {now:.1} %. `resnet50.c` runs convolutions of one tap as matrix products, \
                 which do not stop. `conv1`, with 3 channels, takes 49 folds of K in place of 10; #92 (after the ladder) packs its kernel \
                 columns, which no field here does."
            ),
        ]
    }

    /// Steps and tiles as tables.
    fn more(&self, theirs: &BTreeMap<u64, f64>) -> String {
        let mut text = String::from(
            "| step | `--set` that takes it back | cycles | of the step | published |\n|---|---|---:|---:|---:|\n",
        );
        for (index, (state, totals)) in STATES.iter().zip(&self.rungs).enumerate() {
            let [mut set, mut own_step, mut published] = [const { String::new() }; 3];
            if let Some(below) = index.checked_sub(1) {
                set = state.without.map_or("no counterpart".into(), |set| format!("`{set}`"));
                own_step = step(self.rungs[below].cycles as f64, totals.cycles as f64);
                let of = |state: &State| theirs.get(&state.pull_request);
                if let (Some(&before), Some(&after)) = (of(&STATES[below]), of(state)) {
                    // The work is the same: cycles are as the reciprocal of the utilization.
                    published = step(after, before);
                }
            }
            let cycles = thousands(totals.cycles);
            let _ = writeln!(text, "| {} | {set} | {cycles} | {own_step} | {published} |", state.what);
        }
        text.push_str(
            "\nWhere streams end, and what fills the array's rows, apart from the ladder:\n\n\
             | array tiles | cycles | utilization | cycles with `array.min_stream=16` | utilization |\n\
             |---|---:|---:|---:|---:|\n",
        );
        for ((what, _), pair) in TILES.iter().zip(self.tiles.chunks(2)) {
            let _ = write!(text, "| {what} |");
            for totals in pair {
                let _ = write!(text, " {} | {:.1} % |", thousands(totals.cycles), percent(totals));
            }
            text.push('\n');
        }
        text
    }
}

fn percent(totals: &Totals) -> f64 {
    100.0 * totals.array_utilization
}

/// What a step takes off the cycles, in percent with its sign.
fn step(before: f64, after: f64) -> String {
    format!("{:+.1} %", 100.0 * (after / before - 1.0))
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    Ladder::climb()?.findings(&settings.published)
}
