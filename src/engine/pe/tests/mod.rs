//! The registers alone: cases worked out by hand, conflicts that must be found, and how fast they are followed.

use super::*;
use crate::{
    config::{self, LoadPath, load},
    tensor::Overflow,
};

const EXACT: Integers = Integers { column_bits: 32, accumulator_bits: 32, overflow: Overflow::Wrap };

/// `rows x cols`, a row a cycle, one shadow register.
fn array(rows: u32, cols: u32) -> config::Array {
    let mut array = load("edge_16x16", &[]).unwrap().config.array;
    (array.rows, array.cols, array.weight_load.cycles) = (rows, cols, rows);
    array
}

/// A tile of two columns past the operand that is loaded.
fn tile(left: &[i32], rows: usize, first: usize) -> Tile {
    let beats = left.len() / rows;
    Tile {
        beats: u32::try_from(beats).unwrap(),
        beat_cycles: 1,
        left: left.to_vec(),
        sums: Sums { first, rows: beats, cols: 2, row_stride: 2, col_stride: 1 },
        ..Tile::default()
    }
}

#[test]
fn two_by_two_by_hand() {
    let mut array = Array::new(&array(2, 2), EXACT, 8);
    array.begin(&Command::Preload(vec![1, 2, 3, 4]), 0).unwrap();
    // Rows (5, 6), (7, 8), (9, 10) past ((1, 2), (3, 4)).
    array.begin(&Command::Stream(tile(&[5, 6, 7, 8, 9, 10], 2, 0)), 2).unwrap();
    // Beat 0 is in element (1, 1) in cycle 4, its row of sums at the edge in cycle 5.
    array.advance(5).unwrap();
    assert_eq!((array.accumulator(0), array.accumulator(1)), (None, None));
    array.advance(6).unwrap();
    assert_eq!((array.accumulator(0), array.accumulator(1)), (Some(5 + 18), Some(10 + 24)));
    assert_eq!(array.accumulator(2), None);
    array.finish().unwrap();
    let sums: Vec<_> = (0..6).map(|address| array.accumulator(address).unwrap()).collect();
    assert_eq!(sums, [23, 34, 31, 46, 39, 58]);
    let finished = array.take_finished();
    assert_eq!((finished[0].last_out, finished[0].sums.as_slice()), (7, sums.as_slice()));
}

#[test]
fn a_stream_ahead_of_its_load_meets_another_operand() {
    let mut array = Array::new(&array(2, 2), EXACT, 8);
    array.begin(&Command::Preload(vec![1; 4]), 0).unwrap();
    array.begin(&Command::Stream(tile(&[1; 6], 2, 0)), 1).unwrap();
    let conflict = array.finish().unwrap_err();
    let meeting = Meeting::WrongWeight { row: 1, col: 0, found: 0, expected: 1 };
    assert_eq!(conflict, Conflict { tile: 1, cycle: 2, meeting });
}

#[test]
fn equal_values_do_not_hide_a_conflict() {
    let mut machine = array(2, 2);
    (machine.weight_load.shadow_depth, machine.weight_load.path) = (0, LoadPath::Chain);
    let run = |second: u64| {
        let mut array = Array::new(&machine, EXACT, 8);
        array.begin(&Command::Preload(vec![1; 4]), 0).unwrap();
        array.begin(&Command::Stream(tile(&[1; 4], 2, 0)), 2).unwrap();
        array.begin(&Command::Preload(vec![1; 4]), second).unwrap();
        array.begin(&Command::Stream(tile(&[1; 4], 2, 4)), second + 2).unwrap();
        array.finish()
    };
    // The last beat enters in cycle 3 and is in element (1, 1) in cycle 5, in which the chain may move again.
    assert!(matches!(run(4).unwrap_err().meeting, Meeting::WrongWeight { row: 1, col: 1, .. }));
    assert!(run(5).is_ok());
}

#[test]
fn what_is_none_of_the_array_s_is_refused() {
    let mut array = Array::new(&array(2, 2), EXACT, 8);
    let refused = |conflict: Result<(), Conflict>| conflict.unwrap_err().meeting;
    assert_eq!(refused(array.begin(&Command::Stream(tile(&[1; 2], 2, 0)), 0)), Meeting::NothingLoaded);
    assert_eq!(refused(array.begin(&Command::Preload(vec![1; 3]), 0)), Meeting::OutOfRange);
    array.begin(&Command::Preload(vec![1; 4]), 4).unwrap();
    assert_eq!(refused(array.begin(&Command::Preload(vec![1; 4]), 5)), Meeting::LoadPortTaken);
    assert_eq!(refused(array.begin(&Command::Stream(tile(&[1; 6], 2, 4)), 9)), Meeting::OutOfRange);
    array.begin(&Command::Stream(tile(&[1; 6], 2, 0)), 9).unwrap();
    assert_eq!(refused(array.begin(&Command::Stream(tile(&[1; 6], 2, 0)), 11)), Meeting::PortTaken);
}

#[test]
fn adders_are_as_wide_as_they_are() {
    let narrow = |overflow| Integers { column_bits: 8, accumulator_bits: 16, overflow };
    assert_eq!(narrow(Overflow::Wrap).multiply_add(100, 4, 7), -128);
    assert_eq!(narrow(Overflow::Saturate).multiply_add(100, 4, 7), 127);
    assert_eq!(narrow(Overflow::Saturate).multiply_add(-100, 4, -7), -128);
    assert_eq!(narrow(Overflow::Saturate).accumulate(32_000, 1000), 32_767);
    let wide = Integers { column_bits: 64, accumulator_bits: 64, overflow: Overflow::Wrap };
    assert_eq!(wide.multiply_add(i64::MAX, 1, 1), i64::MIN);
    assert_eq!(Integers { overflow: Overflow::Saturate, ..wide }.multiply_add(i64::MAX, 1, 1), i64::MAX);
}

/// Element updates a second, to look at: `cargo test --release --lib engine::pe -- --ignored --nocapture`.
#[test]
#[ignore = "measures the speed of this computer"]
fn updates_a_second() {
    let mut array = Array::new(&array(16, 16), EXACT, 1 << 16);
    let begin = std::time::Instant::now();
    for index in 0..200_u64 {
        array.begin(&Command::Preload(vec![1; 256]), index * 256).unwrap();
        let streamed =
            Tile { sums: Sums { cols: 16, row_stride: 16, ..tile(&[3; 4096], 16, 0).sums }, ..tile(&[3; 4096], 16, 0) };
        array.begin(&Command::Stream(streamed), index * 256 + 16).unwrap();
        array.advance(index * 256).unwrap();
    }
    array.finish().unwrap();
    let millions = array.updates() as f64 / begin.elapsed().as_secs_f64() / 1e6;
    println!("{millions:.0} million element updates a second");
    assert!(millions > 1.0, "{millions}");
}
