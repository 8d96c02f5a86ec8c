//! `docs/validation.md` and `systole validate`: the page says what the command says today, and a figure that differs is found.
//! `UPDATE_DOCS=1 cargo test --release --test suite validation` writes the page again, but for `rtl`, which needs Verilator:
//! `systole validate -o docs/validation.md` writes that too.

use std::{fs, path::Path, sync::Mutex};

use assert_cmd::{assert::Assert, cargo::cargo_bin_cmd};
use systole::{
    diag::Silent,
    validate::{SOURCES, Settings, Source, Validation, spliced, validate},
};
use tempfile::TempDir;

/// Tests run side by side, and write one page.
static PAGE: Mutex<()> = Mutex::new(());

/// The page's blocks of some sources are what was found.
pub fn page_holds(found: &[Validation]) {
    let _alone = PAGE.lock().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/validation.md");
    let page = fs::read_to_string(&path).unwrap();
    let today = spliced(&page, found).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, today).unwrap();
        return;
    }
    for (old, new) in page.lines().zip(today.lines()) {
        assert_eq!(old, new, "UPDATE_DOCS=1 cargo test --release --test suite validation");
    }
    assert!(page == today, "UPDATE_DOCS=1 cargo test --release --test suite validation");
}

#[test]
fn the_page_of_validation_says_what_the_command_says() {
    let quick: Vec<Source> = SOURCES.iter().filter(|source| source.is_quick).copied().collect();
    let found = validate(&quick, &Settings::default(), &mut Silent).unwrap();
    for one in &found {
        assert!(one.holds(), "{}", one.source.name);
        // A figure that differs stands beside its explanation.
        let total = one.findings.total();
        assert!(total.equal == total.count || !one.findings.notes.is_empty(), "{}", one.source.name);
    }
    page_holds(&found);
}

fn systole(folder: &TempDir, line: &str) -> Assert {
    cargo_bin_cmd!("systole").current_dir(folder.path()).args(line.split_whitespace()).assert()
}

fn texts(assert: &Assert) -> [String; 2] {
    let output = assert.get_output();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    // Faults are broken into lines behind a bar.
    let words: Vec<&str> = err.split_whitespace().filter(|word| *word != "│").collect();
    [out, words.join(" ")]
}

#[test]
fn a_changed_figure_ends_the_command_with_a_mismatch() {
    let table = include_str!("../../src/validate/published/ws_array_rtl.csv");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("theirs")).unwrap();
    let line = "validate --source ws_array --source os_array --published theirs";
    let write = |text: &str| fs::write(folder.path().join("theirs/ws_array_rtl.csv"), text).unwrap();
    write(table);
    systole(&folder, line).success();
    write(&table.replace(",22528,", ",22529,"));
    let [out, _] = texts(&systole(&folder, line).code(2));
    assert!(out.contains("NOT EQUAL  ws_array: 8x8, 128 x 64 x 128, cycles: ours 22,528, theirs 22,529"), "{out}");
    write(&table.replace(",22528,", ",x,"));
    let [out, err] = texts(&systole(&folder, line).code(1));
    assert!(out.is_empty() && err.contains("expected a whole number, found") && err.contains("`x`"), "{err}");
    fs::remove_file(folder.path().join("theirs/ws_array_rtl.csv")).unwrap();
    let [_, err] = texts(&systole(&folder, line).code(1));
    assert!(err.contains("no table of published figures"), "{err}");
}

#[test]
fn a_page_is_made_written_anew_and_never_overwritten_without_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    let line = "validate --source os_array --source ws_array -o page.md";
    let [out, _] = texts(&systole(&folder, line).success());
    assert!(out.ends_with("wrote page.md\n") && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("| 8x16, 50 x 70 x 147 | cycles | 5,185 | 5,185 | 0 |"), "{text}");
    fs::write(&page, text.replace("| 5,185 | 5,185 |", "| 1 | 2 |") + "By hand.\n").unwrap();
    systole(&folder, "validate --source os_array -o page.md").success();
    assert_eq!(fs::read_to_string(&page).unwrap(), text + "By hand.\n");
    fs::write(&page, "Mine.\n").unwrap();
    let [_, err] = texts(&systole(&folder, line).code(1));
    assert!(err.contains("no place for `summary`"), "{err}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "Mine.\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
