//! Google's first TPU as published: how much of the time its array works on fully connected layers, and what it waits for.

use std::fmt::Write as _;

use super::{Findings, Kind, Row, Settings, Source, published::Line};
use crate::{
    config,
    diag::{Faults, Progress},
    engine::timing::{self, Done, Observer, Unit},
    import,
    pipeline::{Failure, Model, map, prepare},
    program::Operation,
    units::Time,
};

pub(super) const SOURCE: Source = Source {
    name: "tpu_v1",
    title: "TPU v1's stall shares",
    kind: Kind::External,
    is_exact: false,
    is_quick: true,
    about: "Jouppi et al., ISCA 2017: measured on the hardware, in percent of all cycles. Ours: the preset `tpu_v1_like`, timed on layers whose \
            weights are fetched once a batch, at each application's batch. The shapes of its applications are not public; ours are five \
            square layers of 2,048 (MLP0 has five layers and 20 M weights). `array active`: cycles in which operands stream; `weight \
            shift`: cycles in which a tile is shifted in and nothing streams; `weight stall`: all others between the first load and the \
            last stream; `the rest`: before and behind, theirs the non-matrix cycles.",
    run,
};

/// Width and number of the layers.
const WIDTH: u64 = 2048;
const LAYERS: u64 = 5;

/// Tiles of weights, of 256 x 256 bytes.
const TILES: u64 = LAYERS * (WIDTH / 256) * (WIDTH / 256);

/// Cycles in which the 65,536 bytes of a tile of weights pass 34 GB/s at 700 MHz.
const CYCLES_OF_A_TILE: f64 = 65_536.0 / 34.0 * 0.7;

/// When the array's instructions began and ended, in their order.
struct ArrayTimes {
    unit: Unit,
    period: Time,
    times: Vec<[u64; 2]>,
}

impl Observer for ArrayTimes {
    fn done(&mut self, done: &Done) {
        if done.unit == self.unit {
            self.times.push([done.start, done.end].map(|time| time.cycles_ceil(self.period).0));
        }
    }
}

/// What the array does with the cycles of a run.
#[derive(Clone, Copy, Debug)]
struct Shares {
    cycles: u64,
    /// In which operands stream.
    active: u64,
    /// In which a load is under way and nothing streams.
    shift: u64,
    /// From the first load to the last stream.
    span: u64,
    /// Tiles of weights that are shifted in, those of the network more than once where a batch is cut.
    loads: u64,
}

/// Cycles that stretches cover, which are sorted by their beginnings.
fn covered(stretches: &[[u64; 2]]) -> u64 {
    let mut reached = 0;
    let mut sum = 0;
    for &[begin, end] in stretches {
        sum += end.saturating_sub(begin.max(reached));
        reached = reached.max(end);
    }
    sum
}

/// The layers on the preset, at a batch.
fn timed(batch: u64) -> Result<Shares, Failure> {
    let mut layers = String::new();
    for index in 0..LAYERS {
        let operator = format!("FullyConnected(out: {WIDTH}, activation: Relu)");
        let _ = write!(layers, r#"(name: "fc{index}", op: {operator}, weight: 0.002, scale: 0.02),"#);
    }
    let list = format!(r#"(name: "layers", input: (shape: [{WIDTH}], scale: 0.02), layers: [{layers}])"#);
    let model = Model { graph: import::ron::parse(&list, "layers", usize::try_from(batch).ok())?, hash: 0 };
    let machine = config::load("tpu_v1_like", &[])?;
    let network = prepare(&model, &machine, None, true)?;
    let mapped = map(&network, &machine)?;
    let program = &mapped.program;
    let unit = Unit::Engine(usize::from(machine.array_engine().0));
    let mut observed = ArrayTimes { unit, period: machine.array_period, times: Vec::new() };
    let report = timing::observe(
        &machine,
        &program.header,
        program.instructions(),
        timing::Options::default(),
        &mut observed,
        None,
    )?;

    let (mut loads, mut streams) = (Vec::new(), Vec::new());
    let mut times = observed.times.into_iter();
    for instruction in program.instructions() {
        match &instruction.operation {
            Operation::Preload { .. } | Operation::PreloadNext { .. } => loads.extend(times.next()),
            Operation::Matmul(matmul) => {
                let beats = u64::from(matmul.stream.rows());
                streams.extend(times.next().map(|[begin, _]| [begin, begin + beats]));
            }
            _ => {}
        }
    }
    let mut both: Vec<[u64; 2]> = loads.iter().chain(&streams).copied().collect();
    both.sort_unstable();
    let begin = both.first().map_or(0, |stretch| stretch[0]);
    let end = both.iter().map(|stretch| stretch[1]).max().unwrap_or(0);
    let active = covered(&streams);
    Ok(Shares {
        cycles: report.cycles.get(),
        active,
        shift: covered(&both) - active,
        span: end - begin,
        loads: loads.len() as u64,
    })
}

/// What is published of an application, in percent: active, stall, shift, the rest.
fn published(line: &Line) -> Result<[f64; 4], Faults> {
    Ok([line.real("array_active")?, line.real("weight_stall")?, line.real("weight_shift")?, line.real("non_matrix")?])
}

/// Shares without the last of them, in one decimal.
fn of_the_first_three(shares: [f64; 4]) -> String {
    let sum: f64 = shares[..3].iter().sum();
    let [active, stall, shift] = [0, 1, 2].map(|index| 100.0 * shares[index] / sum.max(f64::MIN_POSITIVE));
    format!("{active:.1}, {stall:.1} and {shift:.1} %")
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    const FIGURES: [&str; 4] = ["array active, %", "weight stall, %", "weight shift, %", "the rest, %"];
    /// TOPS of the hardware at its peak, which the published shares refer to.
    const PEAK: f64 = 92.0;
    let table = settings.published.table("tpu_v1.csv")?;
    let mut found = Findings::default();
    for line in table.lines() {
        let app = line.text("app")?;
        let batch = line.count("batch")?;
        let what = format!("{app}, batch {batch}");
        if line.text("fully_connected")? != "yes" {
            let reason = "not comparable: weights do not bind, and its layers are not public";
            found.rows.push(Row::not(what, FIGURES[0], reason));
            continue;
        }
        let ours = timed(batch)?;
        if found.rows.is_empty() {
            let what = "64 KiB of weights at 34 GB/s";
            let cycles = ours.span as f64 / TILES as f64;
            found.rows.push(Row::of(what, "cycles", cycles.round(), CYCLES_OF_A_TILE.round()));
        }
        let percent = |cycles: u64| 100.0 * cycles as f64 / ours.cycles.max(1) as f64;
        let rest = ours.cycles - ours.span;
        let shares = [ours.active, ours.span - ours.active - ours.shift, ours.shift, rest].map(percent);
        let theirs = published(&line)?;
        for ((figure, ours), theirs) in FIGURES.iter().zip(shares).zip(theirs) {
            found.rows.push(Row::of(what.clone(), figure, ours, theirs));
        }
        let bound = 100.0 * batch as f64 / CYCLES_OF_A_TILE;
        let mut note = format!(
            "{app}: at most {bound:.1} % active, {batch} cycles of 1,349 a tile. Active, stall and shift without the rest: \
             ours {}, theirs {}.",
            of_the_first_three(shares),
            of_the_first_three(theirs)
        );
        if ours.loads > TILES {
            let _ = write!(
                note,
                " Ours shifts {} tiles for {TILES}: the mapping cuts this batch and passes its parts by each tile in turn.",
                ours.loads
            );
        }
        let reached = line.real("TOPS")? / (PEAK * line.real("useful_macs")? / 100.0);
        if reached < 0.75 {
            let _ = write!(
                note,
                " The published TOPS are {reached:.2} of what its useful cycles would do at peak, as if a beat took two cycles: the paper \
                 gives operands of 16 bits half the rate, and does not say who has them. With two cycles a beat the bound is {:.1} %.",
                2.0 * bound
            );
        }
        found.notes.push(note);
    }
    found.notes.push(
        "The rest is 10 to 32 % of theirs: activations, and layers that wait for the one before. Ours has the matrix products of five layers and \
         nothing else, so that the array's stalls take that share. Weights are fetched under the rest too: of the other \
         cycles, more than the bound may be active."
            .to_owned(),
    );
    Ok(found)
}
