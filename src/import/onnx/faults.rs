//! Gathers what is wrong with a model: all of it, but the same finding on many nodes once, with its count.

use std::collections::HashMap;

use super::limits::{MAX_FAULTS, Refusal, clip};
use crate::diag::{Diagnostic, Faults};

struct Finding {
    path: Option<String>,
    message: String,
    help: Option<String>,
    more: u64,
}

/// The findings so far.
#[derive(Default)]
pub(super) struct Collector {
    findings: Vec<Finding>,
    places: HashMap<(String, String), usize>,
    left_out: u64,
}

impl Collector {
    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// A finding about the file as a whole, or about a named part of it such as `input "x"`.
    pub(super) fn add(&mut self, path: Option<String>, refusal: impl Into<Refusal>) {
        let refusal = refusal.into();
        if self.findings.len() >= MAX_FAULTS {
            self.left_out += 1;
            return;
        }
        self.findings.push(Finding { path, message: refusal.message, help: refusal.help, more: 0 });
    }

    /// A finding about a node. The same message about another node of the same operator only counts.
    pub(super) fn node(&mut self, name: &str, operator: &str, refusal: Refusal) {
        let operator = clip(operator);
        let key = (operator.to_owned(), refusal.message.clone());
        if let Some(&place) = self.places.get(&key) {
            self.findings[place].more += 1;
            return;
        }
        if self.findings.len() < MAX_FAULTS {
            self.places.insert(key, self.findings.len());
        }
        self.add(Some(format!("node {:?} ({})", clip(name), operator.escape_debug())), refusal);
    }

    /// The findings as faults.
    pub(super) fn into_faults(self) -> Faults {
        let mut faults: Vec<Diagnostic> = self
            .findings
            .into_iter()
            .map(|finding| {
                let message = match finding.more {
                    0 => finding.message,
                    1 => format!("{} (and one more such node)", finding.message),
                    more => format!("{} (and {more} more such nodes)", finding.message),
                };
                Diagnostic { path: finding.path, help: finding.help, ..Diagnostic::error(message) }
            })
            .collect();
        if self.left_out > 0 {
            faults.push(Diagnostic::error(format!("{} further faults are not listed", self.left_out)));
        }
        Faults(faults)
    }
}
