//! Writes the requests of a timed run to memory as CSV, for use in other memory simulators: a row a burst, up to a
//! bound. Knows nothing of why they are made.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    config::Accelerator,
    diag::{Diagnostic, Faults},
    engine::timing::MemoryAccess,
    units::thousands,
};

/// Rows at most: some 60 MB.
pub const MOST_ROWS: u64 = 1 << 20;

/// A trace in the making, under a hidden name until it is whole.
#[derive(Debug)]
pub struct MemoryTrace {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    memories: Vec<String>,
    engines: Vec<String>,
    most_rows: u64,
    requests: u64,
    /// The first thing that went wrong; told at the end.
    fault: Option<io::Error>,
}

impl MemoryTrace {
    /// Begins a file of at most so many rows.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, accelerator: &Accelerator, most_rows: u64) -> Result<Self, Faults> {
        let refused = |error: io::Error| unwritable(path, &error);
        let Some(name) = path.file_name() else {
            return Err(refused(io::Error::other("the name of a file is expected")));
        };
        let partial = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let out = BufWriter::new(File::create(&partial).map_err(refused)?);
        let mut trace = Self {
            path: path.to_owned(),
            partial,
            out,
            // Names are the user's; a comma or quote in one must not make a column.
            memories: accelerator.config.memories.iter().map(|memory| quoted(&memory.name)).collect(),
            engines: accelerator.engines.iter().map(|engine| quoted(&engine.name)).collect(),
            most_rows,
            requests: 0,
            fault: None,
        };
        trace.line(format_args!("time_fs,address,bytes,access,memory,engine"));
        Ok(trace)
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        if self.fault.is_none() {
            self.fault = writeln!(self.out, "{text}").err();
        }
    }

    /// Takes a request.
    pub fn add(&mut self, access: MemoryAccess) {
        self.requests += 1;
        if self.requests > self.most_rows || self.fault.is_some() {
            return;
        }
        let MemoryAccess { time, address, bytes, write, memory, engine } = access;
        let access = if write { "write" } else { "read" };
        let [memory, engine] = [(&self.memories, memory), (&self.engines, engine)]
            .map(|(names, index)| names.get(usize::from(index)).map_or("", String::as_str));
        self.fault = writeln!(self.out, "{time},{address},{bytes},{access},{memory},{engine}").err();
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// What the file system says; then there is no file.
    pub fn finish(mut self) -> Result<(), Faults> {
        if self.requests > self.most_rows {
            let [most, all] = [self.most_rows, self.requests].map(thousands);
            self.line(format_args!("# cut after {most} of {all} requests"));
        }
        let written = self.fault.take().map_or_else(|| self.out.flush(), Err);
        written.and_then(|()| fs::rename(&self.partial, &self.path)).map_err(|error| unwritable(&self.path, &error))
    }
}

impl Drop for MemoryTrace {
    fn drop(&mut self) {
        // Gone where the trace is whole; what cannot be removed is only a hidden file.
        let _ = fs::remove_file(&self.partial);
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Faults {
    Diagnostic::error(format!("cannot write `{}`: {error}", path.display()))
        .with_help("give `--memory-trace` the name of a file in a folder that exists and that you may write to")
        .into()
}

fn quoted(name: &str) -> String {
    if name.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Time;

    #[test]
    fn a_trace_is_cut_at_its_bound_and_says_so() {
        let accelerator = crate::config::load("edge_16x16", &[]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.csv");
        for (requests, rows, cut) in [(2, 2, false), (3, 2, true)] {
            let mut trace = MemoryTrace::create(&path, &accelerator, 2).unwrap();
            for index in 0..requests {
                let address = 64 * index;
                let write = index == 1;
                trace.add(MemoryAccess { time: Time(index), address, bytes: 64, write, memory: 0, engine: 0 });
            }
            trace.finish().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "time_fs,address,bytes,access,memory,engine");
            assert!(lines[1].starts_with("0,0,64,read,") && lines[2].starts_with("1,64,64,write,"), "{text}");
            assert_eq!(lines.len(), 1 + rows + usize::from(cut));
            assert_eq!(lines.last() == Some(&"# cut after 2 of 3 requests"), cut);
        }
        // Nothing is left of one that does not end.
        drop(MemoryTrace::create(&dir.path().join("other.csv"), &accelerator, 2).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = MemoryTrace::create(&dir.path().join("no/trace.csv"), &accelerator, 2).unwrap_err();
        assert!(error.0[0].message.contains("no/trace.csv"), "{}", error.0[0].message);
    }
}
