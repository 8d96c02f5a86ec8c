//! Holds the source to the contract of `docs/architecture.md`: which room may use which, read from the `use` lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each room may use, beside itself, `units` and `diag`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("baseline", &["ir", "tensor", "kernels", "reference"]),
    ("cli", &["explore", "report", "pipeline", "config", "import", "result", "ir", "passes"]),
    ("config", &["tensor"]),
    ("diag", &[]),
    ("engine::functional", &["program", "tensor", "config", "kernels", "ir"]),
    ("engine::timing", &["program", "tensor", "config"]),
    ("explore", &["pipeline", "result"]),
    ("import", &["ir", "tensor"]),
    ("ir", &["tensor"]),
    ("kernels", &["tensor"]),
    ("mapping", &["ir", "tensor", "config"]),
    ("passes", &["ir", "tensor"]),
    (
        "pipeline",
        &[
            "baseline",
            "config",
            "tensor",
            "ir",
            "import",
            "passes",
            "reference",
            "mapping",
            "program",
            "engine::functional",
            "engine::timing",
            "verify",
            "result",
        ],
    ),
    ("program", &["mapping", "ir", "config", "tensor"]),
    ("reference", &["ir", "tensor"]),
    ("report", &["result"]),
    ("result", &[]),
    ("tensor", &[]),
    ("units", &[]),
    ("verify", &["tensor"]),
];

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a path below `crate::`: its first segment, or the first two inside `engine`.
fn room(segments: &[&str]) -> Option<String> {
    match segments {
        ["engine", second, ..] => Some(format!("engine::{second}")),
        ["main" | "lib", ..] | [] => None,
        [first, ..] => Some((*first).to_string()),
    }
}

/// Every `crate::...` path in a source text, as segments; `use crate::{a::b, c}` counts once for each branch.
fn crate_paths(text: &str) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    let without_comments: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    for (at, _) in without_comments.match_indices("crate::") {
        let rest = &without_comments[at + "crate::".len()..];
        expand(rest, &mut Vec::new(), &mut paths);
    }
    paths
}

/// Reads one `a::b::{c, d::e}` from the start of `text`; returns how much it took.
fn expand(text: &str, prefix: &mut Vec<String>, paths: &mut BTreeSet<Vec<String>>) -> usize {
    let trimmed = text.trim_start();
    let skipped = text.len() - trimmed.len();
    if let Some(inner) = trimmed.strip_prefix('{') {
        let mut taken = 1;
        loop {
            let rest = &inner[taken - 1..];
            let space = rest.len() - rest.trim_start().len();
            let rest = rest.trim_start();
            taken += space;
            match rest.chars().next() {
                Some('}') | None => return skipped + taken + 1,
                Some(',') => taken += 1,
                Some(_) => taken += expand(rest, prefix, paths).max(1),
            }
        }
    }
    let name: String = trimmed.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return skipped;
    }
    prefix.push(name.clone());
    let mut taken = skipped + name.len();
    if let Some(rest) = trimmed[name.len()..].strip_prefix("::") {
        taken += 2 + expand(rest, prefix, paths);
    } else {
        paths.insert(prefix.clone());
    }
    prefix.pop();
    taken
}

/// Files that are test modules as a whole.
fn is_test(file: &Path) -> bool {
    let names = ["tests.rs", "testing.rs", "speed.rs", "conformance.rs"];
    file.iter().any(|part| part == "tests") || names.iter().any(|name| file.ends_with(name))
}

#[test]
fn rooms_use_only_what_they_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 30, "the source was not found");
    let mut faults = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap();
        let segments: Vec<String> =
            relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let Some(own) = room(&segments) else { continue };
        if own == "engine::mod" || is_test(relative) {
            continue;
        }
        let may = allowed.get(own.as_str()).unwrap_or_else(|| panic!("{own} is not in the list of rooms"));
        for path in crate_paths(&fs::read_to_string(file).unwrap()) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some(used) = room(&path) else { continue };
            // A macro, a trait imported for its methods.
            let is_no_room = ["with_array", "_", "as"].contains(&used.as_str());
            if used != own
                && !is_no_room
                && !["units", "diag"].contains(&used.as_str())
                && !may.contains(&used.as_str())
            {
                faults.push(format!("{}: `{own}` may not use `{used}`", relative.display()));
            }
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_below_the_command_line_prints_or_looks_at_the_clock() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap();
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        // The measured CPU baseline is asked for by a flag and looks at the clock on purpose.
        let may =
            relative.starts_with("cli") || relative == Path::new("main.rs") || relative == Path::new("baseline/mod.rs");
        if may || is_test(relative) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            let line_code = line.split("//").next().unwrap_or("");
            for forbidden in ["println!", "eprintln!", "dbg!", "std::env::", "Instant::now", "SystemTime"] {
                assert!(!line_code.contains(forbidden), "{}:{}: {forbidden}", relative.display(), number + 1);
            }
        }
    }
}

#[test]
fn paths_of_nested_uses_are_all_found() {
    let paths = crate_paths(
        "use crate::{config::Accelerator, ir::{Graph, op::Op}, units};\nlet x = crate::tensor::DType::Int8;",
    );
    let joined: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(joined, ["config::Accelerator", "ir::Graph", "ir::op::Op", "tensor::DType::Int8", "units"]);
}
