//! Standard output and standard error. A reader that goes away is no fault: `systole ... | head` ends quietly.

use std::{
    fmt,
    io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write},
};

use super::args::When;

/// Writes to standard output.
///
/// # Errors
/// The system's, a closed pipe left out.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    quietly(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Standard output for a text that is too long to hold.
pub struct Stdout {
    out: BufWriter<StdoutLock<'static>>,
    /// What stopped it.
    error: Option<io::Error>,
}

impl Stdout {
    /// Takes standard output.
    pub fn new() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), error: None }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The system's, a closed pipe left out.
    pub fn finish(mut self) -> io::Result<()> {
        quietly(self.error.take().map_or_else(|| self.out.flush(), Err))
    }
}

impl fmt::Write for Stdout {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

/// Writes to standard error. Where that is closed too, there is no one left to tell.
pub fn complain(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{}", text.trim_end());
}

fn quietly(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Whether standard error takes colour. `NO_COLOR` as on no-color.org.
pub fn colour(when: When) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            !unwanted && !dumb && io::stderr().is_terminal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_pipe_is_quiet() {
        assert!(quietly(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quietly(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
