//! Charts of a record as PNG and SVG. A chart lays out a [`Scene`](scene::Scene) once; both formats draw that.

use crate::result::RunResult;

mod axis;
mod causes;
mod frame;
mod layers;
mod palette;
mod render;
mod roofline;
mod scene;
mod utilization;

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The SVG or bitmap backend failed.
    #[error("cannot draw the chart: {0}")]
    Draw(String),
    /// The PNG encoder failed.
    #[error("cannot encode the chart: {0}")]
    Png(#[from] png::EncodingError),
}

/// The charts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// Cycles by layer and cause, stacked.
    Causes,
    /// Each layer's array utilization split into its three factors.
    Utilization,
    /// Operations a second against operations a byte, with the ceilings.
    Roofline,
}

impl Chart {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Causes, Self::Utilization, Self::Roofline];

    /// The file's name without its extension.
    pub const fn file_stem(self) -> &'static str {
        match self {
            Self::Causes => "causes",
            Self::Utilization => "utilization",
            Self::Roofline => "roofline",
        }
    }

    /// Draws it. The same record gives the same bytes.
    ///
    /// # Errors
    /// The backend's; none is known.
    pub fn draw(self, result: &RunResult) -> Result<Picture, ChartError> {
        let scene = match self {
            Self::Causes => causes::scene(result),
            Self::Utilization => utilization::scene(result),
            Self::Roofline => roofline::scene(result),
        };
        Ok(Picture { svg: render::svg(&scene)?, png: render::png(&scene)? })
    }
}

/// A drawn chart.
#[derive(Clone, Debug)]
pub struct Picture {
    /// An SVG document of 1920 x 1080.
    pub svg: String,
    /// A PNG file of 1920 x 1080 pixels.
    pub png: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_record_makes_a_layout_fail(seed in any::<u64>()) {
            let result = sample::random(seed);
            for scene in [causes::scene(&result), utilization::scene(&result), roofline::scene(&result)] {
                scene.check().map_err(TestCaseError::fail)?;
                let svg = render::svg(&scene).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
                prop_assert!(!svg.contains("NaN"));
            }
        }
    }

    #[test]
    fn texts_never_overlap_and_everything_stays_inside() {
        for count in [1, 2, 5, 24, 32, 33, 36, 60, 150, 700, 1500] {
            for result in [sample::run(count), sample::run_with_long_names(count)] {
                for scene in [causes::scene(&result), utilization::scene(&result), roofline::scene(&result)] {
                    scene.check().unwrap_or_else(|fault| panic!("{count} layers: {fault}"));
                }
            }
        }
    }

    #[test]
    fn records_without_layers_cycles_or_numbers_are_drawn() {
        let mut zeros = sample::run(5);
        zeros.layers.iter_mut().for_each(|layer| *layer = crate::result::LayerResult::default());
        (zeros.totals, zeros.machine) = Default::default();
        let mut not_numbers = sample::run(3);
        not_numbers.totals.seconds = f64::NAN;
        not_numbers.totals.mapping_efficiency = f64::INFINITY;
        not_numbers.machine.peak_macs_per_s = f64::NAN;
        not_numbers.layers[0].array_utilization = f64::NAN;
        for result in [sample::run(0), sample::run(1), zeros, not_numbers] {
            for chart in Chart::ALL {
                let picture = chart.draw(&result).unwrap();
                assert!(picture.png.starts_with(b"\x89PNG"));
            }
        }
    }

    #[test]
    fn the_same_record_gives_the_same_bytes() {
        let result = sample::run(40);
        for chart in Chart::ALL {
            let (one, two) = (chart.draw(&result).unwrap(), chart.draw(&result).unwrap());
            assert_eq!(one.svg, two.svg);
            assert_eq!(one.png, two.png);
        }
    }

    /// Writes pictures to look at: `cargo test --release --lib report::chart -- --ignored`, then see
    /// `target/chart-samples`.
    #[test]
    #[ignore = "writes files to look at"]
    fn samples_to_look_at() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chart-samples");
        std::fs::create_dir_all(&dir).unwrap();
        for count in [0, 1, 5, 24, 60, 150, 1500] {
            let result = sample::run(count);
            std::fs::write(dir.join(format!("run-{count}.json")), crate::report::json(&result)).unwrap();
            let start = Instant::now();
            for chart in Chart::ALL {
                let picture = chart.draw(&result).unwrap();
                std::fs::write(dir.join(format!("{}-{count}.png", chart.file_stem())), picture.png).unwrap();
                std::fs::write(dir.join(format!("{}-{count}.svg", chart.file_stem())), picture.svg).unwrap();
            }
            let long = sample::run_with_long_names(count);
            for chart in Chart::ALL {
                let picture = chart.draw(&long).unwrap();
                std::fs::write(dir.join(format!("long-{}-{count}.png", chart.file_stem())), picture.png).unwrap();
            }
            println!("{count} layers, twice: {:?}", start.elapsed());
        }
    }
}
