//! How the program ends.

use std::process::ExitCode;

use crate::diag::{Diagnostic, Faults};

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Something that the user gave is wrong: an option, a config, a model, a file that cannot be read or written.
    Input = 1,
    /// The accelerator's bits differ from the reference's, or from the ones given with `--expect`; a published figure that must be
    /// equal is not.
    Mismatch = 2,
    /// A fault of this program.
    Internal = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Input => Self::from(1),
            Exit::Mismatch => Self::from(2),
            Exit::Internal => Self::from(3),
        }
    }
}

/// Why a command has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What the user gave is wrong.
    #[error(transparent)]
    Input(#[from] Faults),
    /// A fault of this program; the text says what was violated.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Failure {
    /// The status that the program ends with.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Input(_) => Exit::Input,
            Self::Internal(_) => Exit::Internal,
        }
    }
}

impl From<Diagnostic> for Failure {
    fn from(one: Diagnostic) -> Self {
        Self::Input(one.into())
    }
}
