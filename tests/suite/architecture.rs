//! Holds the source to the contract of `docs/architecture.md`: which room may use which, read from the `use` lines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each room may use, beside itself, `units` and `diag`: the table of rooms in `docs/architecture.md`.
fn rooms_of_the_contract() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page.split("\n## Rooms\n").nth(1).expect("a section `Rooms`").split("\n## ").next().unwrap();
    let names = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows: Vec<[&str; 2]> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            assert_eq!(cells.len(), 5, "three columns: {line}");
            [cells[1], cells[3]]
        })
        .collect();
    let all: BTreeSet<String> = rows.iter().flat_map(|row| names(row[0])).collect();
    let mut rooms = BTreeMap::new();
    for [room, may] in rows {
        let listed: BTreeSet<String> = names(may).into_iter().collect();
        assert!(listed.is_subset(&all), "rooms that are none: {:?}", listed.difference(&all));
        let may = if may.contains("all rooms but") { all.difference(&listed).cloned().collect() } else { listed };
        rooms.extend(names(room).into_iter().map(|room| (room, may.clone())));
    }
    rooms
}

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

/// What a file's code reaches, without comments and test items: every path that begins with `crate` or goes up by
/// `super`, as segments from the root; a glob ends in `*`. `use crate::{a::b, c}` counts once for each branch.
fn paths_of(module: &[&str], text: &str) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    let code = code_of(text);
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with('$') {
            expand(&code[at + "crate::".len()..], &mut Vec::new(), &mut paths);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let rest = code[at..].trim_start_matches("super::");
        let ups = (code[at..].len() - rest.len()) / "super::".len();
        let mut prefix: Vec<String> =
            module[..module.len().saturating_sub(ups)].iter().map(|&segment| segment.to_owned()).collect();
        expand(rest, &mut prefix, &mut paths);
    }
    paths
}

/// A file's lines without comments and without what stands under `#[cfg(test)]`; a line that is left out is empty.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("#[cfg(test)]") {
            let indent = &line[..line.len() - bare.len()];
            code.push('\n');
            for inner in lines.by_ref() {
                code.push('\n');
                let same = inner.strip_prefix(indent).unwrap_or("");
                // The item ends with a statement of one line, or with the brace below its first column.
                if same.starts_with('}') || (!same.starts_with([' ', '#']) && same.ends_with([';', '}'])) {
                    break;
                }
            }
        } else {
            code += line.split("//").next().unwrap_or("");
            code.push('\n');
        }
    }
    code
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
        if trimmed.starts_with('*') {
            paths.insert(prefix.iter().cloned().chain(["*".to_owned()]).collect());
            return skipped + 1;
        }
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

/// A file's module, from the root.
fn module_of(relative: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// What one file uses against the contract.
fn faults_of(relative: &Path, text: &str, rooms: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let module = module_of(relative);
    let module: Vec<&str> = module.iter().map(String::as_str).collect();
    let Some(own) = room(&module) else { return BTreeSet::new() };
    let mut faults = BTreeSet::new();
    if module == ["engine"] {
        return faults;
    }
    let Some(may) = rooms.get(&own) else {
        return BTreeSet::from([format!("{}: `{own}` is not in the table of rooms", relative.display())]);
    };
    for path in paths_of(&module, text) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if path.first() == Some(&"*") || path == ["engine", "*"] {
            faults.insert(format!("{}: a glob over rooms", relative.display()));
            continue;
        }
        let Some(used) = room(&path) else { continue };
        let known = rooms.contains_key(&used) || path.len() > 1;
        // What is no room and stands at the root is a macro.
        if known && used != own && !["units", "diag"].contains(&used.as_str()) && !may.contains(&used) {
            faults.insert(format!("{}: `{own}` may not use `{used}`", relative.display()));
        }
    }
    faults
}

#[test]
fn rooms_use_only_what_they_may() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = rooms_of_the_contract();
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 30, "the source was not found");
    let mut faults = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap();
        let module = module_of(relative);
        seen.extend(room(&module.iter().map(String::as_str).collect::<Vec<_>>()));
        if !is_test(relative) {
            faults.extend(faults_of(relative, &fs::read_to_string(file).unwrap(), &rooms));
        }
    }
    faults.extend(rooms.keys().filter(|room| !seen.contains(*room)).map(|room| format!("`{room}` has no source")));
    assert!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
}

/// What prints, reads the environment or looks at the clock.
const OUTSIDE: [&str; 10] =
    ["println!", "print!", "eprintln!", "eprint!", "dbg!", "std::env", "env::var", "Instant", "SystemTime", "stdout()"];

#[test]
fn nothing_below_the_command_line_prints_or_looks_at_the_clock() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in &files {
        let relative = file.strip_prefix(&source).unwrap();
        let text = fs::read_to_string(file).unwrap();
        // The measured CPU baseline is asked for by a flag and looks at the clock on purpose.
        let may =
            relative.starts_with("cli") || relative == Path::new("main.rs") || relative == Path::new("baseline/mod.rs");
        if may || is_test(relative) {
            continue;
        }
        for (number, line) in code_of(&text).lines().enumerate() {
            for forbidden in OUTSIDE {
                assert!(!line.contains(forbidden), "{}:{}: {forbidden}", relative.display(), number + 1);
            }
        }
    }
}

#[test]
fn paths_of_nested_uses_are_all_found() {
    let joined = |module: &[&str], text: &str| -> Vec<String> {
        paths_of(module, text).iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(
        joined(
            &["program"],
            "use crate::{config::Accelerator, ir::{Graph, op::Op}, units};\nlet x = crate::tensor::DType::Int8;",
        ),
        ["config::Accelerator", "ir::Graph", "ir::op::Op", "tensor::DType::Int8", "units"]
    );
    assert_eq!(
        joined(&["engine", "timing", "dma"], "use super::super::functional::Machine;"),
        ["engine::functional::Machine"]
    );
    assert_eq!(joined(&["mapping", "cost"], "use super::super::{ir::Graph, config::*};"), ["config::*", "ir::Graph"]);
    assert_eq!(joined(&["ir"], "use crate::*;"), ["*"]);
}

#[test]
fn what_the_contract_forbids_is_found_also_behind_a_test_item() {
    let rooms = rooms_of_the_contract();
    let faults = |file: &str, text: &str| faults_of(Path::new(file), text, &rooms).len();
    assert_eq!(faults("reference/x.rs", "use crate::{ir::Graph, tensor::Tensor};"), 0);
    assert_eq!(faults("reference/x.rs", "use crate::kernels::gemm;"), 1);
    assert_eq!(faults("reference/x.rs", "use super::super::kernels::gemm;"), 1);
    assert_eq!(faults("reference/x.rs", "use crate::*;"), 1);
    assert_eq!(faults("engine/timing/x.rs", "use super::super::functional;"), 1);
    assert_eq!(faults("nowhere/x.rs", ""), 1);
    let hidden = "#[cfg(test)]\nmod tests {\n    use crate::kernels::gemm;\n}\n\nuse crate::config::Accelerator;\n";
    assert_eq!(faults("reference/x.rs", hidden), 1, "only what is no test");
    assert_eq!(code_of("#[cfg(test)]\nuse a;\nb();\n").trim(), "b();");
}

#[test]
fn files_that_comments_and_pages_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    for folder in ["src", "tests", "benches", "examples"] {
        rust_files(&root.join(folder), &mut files);
    }
    files.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut named = 0;
    let mut missing = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        for line in text.lines().filter(|line| !is_rust || line.trim_start().starts_with("//")) {
            for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))) {
                let word = word.trim_end_matches('.');
                let begins =
                    ["src/", "docs/", "tests/", "configs/", "benches/"].iter().any(|room| word.starts_with(room));
                let ends = [".rs", ".md", ".py", ".ron", ".txt", ".sh"].iter().any(|kind| word.ends_with(kind));
                if begins && ends && !word.contains("NAME") {
                    named += 1;
                    if !root.join(word).exists() {
                        missing.push(format!("{}: {word}", file.strip_prefix(root).unwrap().display()));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(named > 30, "only {named} names were seen");
}
