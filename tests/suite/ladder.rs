//! Gemmini's published ladder: a test of direction and size, not of equality. Every step must help, and `docs/validation.md` keeps how
//! far each total lies from the published one.

use systole::validate::{Ladder, Published, Step, Validation, source};

use crate::validation::page_holds;

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "a minute of both cores in the dev profile: cargo test --release --test suite ladder"
)]
fn every_step_of_gemminis_ladder_helps_and_the_page_says_how_far_it_is() {
    let ladder = Ladder::climb().unwrap();
    for Step { what, has_counterpart, cycles: [before, after] } in ladder.steps() {
        if has_counterpart {
            assert!(after < before, "{what}: {before} cycles before and {after} after");
        } else {
            assert_eq!(after, before, "{what} has no counterpart");
        }
    }
    let findings = ladder.findings(&Published::default()).unwrap();
    page_holds(&[Validation { source: *source("gemmini_ladder").unwrap(), findings }]);
}
