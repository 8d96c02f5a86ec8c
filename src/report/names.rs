//! Layer names made short: exporters give most layers the same beginning and end, and those say nothing.

use std::collections::BTreeMap;

use super::format::clean;
use crate::result::RunResult;

/// What most layers' names begin and end with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    prefix: String,
    suffix: String,
}

/// Where a name may be cut.
const SEPARATORS: [char; 4] = ['/', '.', ':', '_'];

impl Names {
    /// Looks at all layers.
    pub fn of(result: &RunResult) -> Self {
        let names: Vec<String> = result.layers.iter().map(|layer| clean(&layer.name)).collect();
        let prefix = shared(names.iter().map(String::as_str).collect(), |name| {
            let end = name.find(SEPARATORS)? + 1;
            (end < name.len()).then(|| name.split_at(end))
        });
        let suffix = shared(names.iter().map(String::as_str).collect(), |name| {
            let start = name.rfind(SEPARATORS)?;
            (start > 0).then(|| (&name[start..], &name[..start]))
        });
        Self { prefix: prefix.concat(), suffix: suffix.iter().rev().copied().collect() }
    }

    /// The name, cleaned, if it fits; else without the usual beginning, then without the usual end. The last of these
    /// may still not fit.
    pub fn short(&self, name: &str, fits: impl Fn(&str) -> bool) -> String {
        let whole = clean(name);
        if fits(&whole) {
            return whole;
        }
        let tail = match whole.strip_prefix(&self.prefix).filter(|rest| !self.prefix.is_empty() && !rest.is_empty()) {
            Some(rest) => format!("…{rest}"),
            None => whole,
        };
        if fits(&tail) || self.suffix.is_empty() {
            return tail;
        }
        match tail.strip_suffix(&self.suffix).filter(|rest| rest.chars().count() > 1) {
            Some(rest) => format!("{rest}…"),
            None => tail,
        }
    }
}

/// The pieces that at least three in five names have in common, from the outside inwards. `cut` parts the outermost
/// piece from the rest.
fn shared<'a>(names: Vec<&'a str>, cut: impl Fn(&'a str) -> Option<(&'a str, &'a str)>) -> Vec<&'a str> {
    // Deeper names than this have no use for it.
    const DEEPEST: usize = 16;
    let (least, mut rest, mut pieces) = (names.len() * 3 / 5, names, Vec::new());
    while pieces.len() < DEEPEST {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in rest {
            if let Some((piece, inner)) = cut(name) {
                found.entry(piece).or_default().push(inner);
            }
        }
        match found.into_iter().max_by_key(|(_, inner)| inner.len()) {
            Some((piece, inner)) if inner.len() > least.max(1) => {
                pieces.push(piece);
                rest = inner;
            }
            _ => break,
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn names(list: &[&str]) -> Names {
        let mut result = sample::run(list.len());
        for (layer, name) in result.layers.iter_mut().zip(list) {
            layer.name = (*name).to_owned();
        }
        Names::of(&result)
    }

    #[test]
    fn usual_beginnings_and_ends_go_first() {
        let names = names(&[
            "/net/block.0/expand/Conv_quant",
            "/net/block.1/depthwise/Conv_quant",
            "/net/block.2/project/Conv_quant",
            "other",
        ]);
        let name = "/net/block.1/depthwise/Conv_quant";
        assert_eq!(names.short(name, |_| true), name);
        assert_eq!(names.short(name, |text| text.chars().count() < 30), "…1/depthwise/Conv_quant");
        assert_eq!(names.short(name, |text| text.chars().count() < 15), "…1/depthwise…");
        assert_eq!(names.short("other", |_| false), "other");
    }

    #[test]
    fn names_that_share_nothing_stay_whole() {
        assert_eq!(names(&["a.x", "b.y", "c.z"]), Names::default());
        assert_eq!(names(&[]), Names::default());
        assert_eq!(names(&["a.x"]), Names::default());
    }

    #[test]
    fn names_of_separators_only_do_no_harm() {
        let names = names(&["////", "////", "////"]);
        assert!(!names.short("////", |_| false).is_empty());
    }
}
