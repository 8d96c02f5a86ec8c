use std::fs;

use super::*;
use crate::diag::Silent;

fn run(names: &[&str], published: Published) -> Vec<Validation> {
    let sources: Vec<Source> = names.iter().map(|name| *source(name).unwrap()).collect();
    validate(&sources, &Settings { published, folder: None }, &mut Silent).unwrap()
}

/// The replaced text in a table of our own, in a folder.
fn changed(name: &str, text: &str, from: &str, to: &str) -> (tempfile::TempDir, Published) {
    assert!(text.contains(from), "{from}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text.replacen(from, to, 1)).unwrap();
    let published = Published::in_folder(folder.path()).unwrap();
    (folder, published)
}

const OS_ARRAY: &str = include_str!("published/os_array_rtl.csv");

#[test]
fn what_must_be_equal_is() {
    let names = ["os_array", "ws_array", "scalesim", "pe"];
    for (validation, figures) in run(&names, Published::default()).iter().zip([30, 12, 405 * 12, 1000]) {
        let total = validation.findings.total();
        let name = validation.source.name;
        assert!(validation.holds(), "{}", summary(std::slice::from_ref(validation)));
        assert!(total.count >= figures && (name == "pe" || total.count == figures), "{name}: {total:?}");
        assert_eq!((total.equal, total.error_max), (total.count, 0.0), "{name}");
        assert!(validation.findings.fitted.is_empty());
    }
}

#[test]
fn our_array_differs_from_scale_sim_s_by_what_is_wrong_there() {
    let found = run(&["scalesim_array"], Published::default());
    assert!(
        found[0].findings.notes[0].starts_with("405 of 405 layers differ by exactly"),
        "{:?}",
        found[0].findings.notes
    );
}

#[test]
fn a_published_figure_that_is_another_one_is_found() {
    let (_folder, published) = changed("os_array_rtl.csv", OS_ARRAY, ",9285,0,163,", ",9286,0,163,");
    let found = run(&["os_array", "ws_array"], published);
    assert!(!found[0].holds() && found[1].holds());
    let total = found[0].findings.total();
    assert_eq!((total.count, total.equal), (30, 29));
    let text = summary(&found);
    assert!(text.contains("NOT EQUAL  os_array: 8x8, 50 x 70 x 147, cycles: ours 9,285, theirs 9,286\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(rows(&found).lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn runs_under_back_pressure_are_shown_and_not_compared() {
    let (_folder, published) = changed("os_array_rtl.csv", OS_ARRAY, "24,100,100,16,396", "24,100,50,16,801");
    let found = run(&["os_array"], published);
    assert!(found[0].holds());
    assert_eq!((found[0].findings.not_compared(), found[0].findings.total().count), (1, 28));
    assert!(block(&found[0]).contains("not comparable"));
    assert!(summary(&found).contains("os_array: 1 row not comparable: operands or results are held up"));
}

#[test]
fn a_table_that_means_no_array_is_the_user_s_fault() {
    let sources = [*source("os_array").unwrap()];
    for (from, to) in [("OS,4,4,16", "OS,0,4,16"), ("OS,4,4,16", "OS,4,4,99999999999"), ("OS,4,4,16", "OS,4,x,16")] {
        let (_folder, published) = changed("os_array_rtl.csv", OS_ARRAY, from, to);
        let failure = validate(&sources, &Settings { published, folder: None }, &mut Silent).unwrap_err();
        assert!(matches!(failure, Failure::User(_)), "{failure}");
    }
    assert!(Published::in_folder(tempfile::tempdir().unwrap().path()).is_err());
}

#[test]
fn hardware_that_did_not_run_has_not_agreed() {
    let found = run(&["rtl"], Published::default());
    assert_eq!((found[0].findings.total().count, found[0].findings.not_compared()), (0, 2));
    assert!(block(&found[0]).contains("not run here: `tests/rtl/run`"));
    assert!(!block(&found[0]).contains("are equal"));
}

#[test]
fn a_page_takes_new_blocks_and_keeps_all_else() {
    let found = run(&["os_array", "rtl"], Published::default());
    let page = spliced(&new_page(&found), &found).unwrap();
    assert!(page.contains("## What others measured") && page.contains("## Internal agreement"));
    assert_eq!(page.matches("| `os_array`").count(), 1);
    assert_eq!(spliced(&page, &found).unwrap(), page);
    // One of them alone leaves the other's block and line.
    let edited =
        page.replace("## Internal agreement\n", "## Internal agreement\n\nBy hand.\n").replace("| 28,", "| 0,");
    let again = spliced(&edited, &found[..1]).unwrap();
    assert!(again.contains("By hand.") && again.contains("| `rtl`"), "{again}");
    let fault = spliced("# Nothing\n", &found).unwrap_err().to_string();
    assert!(fault.contains("no place for `summary`"), "{fault}");
}

#[test]
fn errors_are_relative_and_equality_is_exact_for_whole_numbers() {
    let mut compared = Compared::default();
    for (ours, theirs) in [(1_000_000_001.0, 1e9), (50.0, 50.0), (1.0 / 3.0, 1.0 / 3.0 + 1e-12), (0.0, 0.0), (1.5, 1.0)]
    {
        compared.add(ours, theirs);
    }
    assert_eq!((compared.count, compared.equal, compared.error_max), (5, 3, 0.5));
}

#[test]
fn names_of_sources_are_distinct_and_short_enough_for_their_column() {
    let names: std::collections::BTreeSet<&str> = SOURCES.iter().map(|source| source.name).collect();
    assert_eq!(names.len(), SOURCES.len());
    assert!(names.iter().all(|name| name.len() < 28));
}
