//! `systole validate`: which sources, where a page goes, and what is printed.

use std::{fmt::Write as _, fs, io::ErrorKind, path::Path};

use super::{exit::Failure, settings::ValidateSettings};
use crate::{
    diag::{Diagnostic, Faults, Progress},
    validate::{self, Findings, Published, SOURCES, Settings, Source, Validation},
};

/// Compares, and writes the page. Returns what to show, and whether all that must be equal is.
///
/// # Errors
/// Tables that cannot be read; a page that cannot be read or written, or has no place for what was found.
pub fn run(settings: &ValidateSettings, progress: &mut dyn Progress) -> Result<(String, bool), Failure> {
    let is_wanted = |source: &&Source| {
        let named = settings.sources.is_empty() || settings.sources.iter().any(|name| name == source.name);
        named && (source.is_quick || !settings.quick)
    };
    let sources: Vec<Source> = SOURCES.iter().filter(is_wanted).copied().collect();
    // A page without a place is told before anything is computed.
    let page = settings.out.as_deref().map(page_at).transpose()?;
    if let (Some(path), Some(Some(page))) = (&settings.out, &page) {
        let nothing = |&source: &Source| Validation { source, findings: Findings::default() };
        spliced(path, page, &sources.iter().map(nothing).collect::<Vec<_>>())?;
    }
    let published = settings.published.as_deref().map(Published::in_folder).transpose()?.unwrap_or_default();
    let folder = std::env::temp_dir().join(format!("systole_validate_{}", std::process::id()));
    let found = validate::validate(&sources, &Settings { published, folder: Some(folder.clone()) }, progress);
    // Where it is not there, nothing is lost.
    let _ = fs::remove_dir_all(folder);
    let found = found?;
    let mut text = if settings.rows { validate::rows(&found) } else { String::new() };
    text += &validate::summary(&found);
    if let (Some(path), Some(page)) = (&settings.out, page) {
        write(path, &page.unwrap_or_else(|| validate::new_page(&found)), &found)?;
        let _ = writeln!(text, "wrote {}", path.display());
    }
    let holds = found.iter().all(Validation::holds);
    Ok((text, holds))
}

/// A page's text; `None` where there is no such file yet.
fn page_at(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Diagnostic::error(format!("cannot read the page: {error}")).with_file(path).into()),
    }
}

/// The page with what was found.
fn spliced(path: &Path, page: &str, found: &[Validation]) -> Result<String, Failure> {
    validate::spliced(page, found)
        .map_err(|faults| Faults(faults.0.into_iter().map(|fault| fault.with_file(path)).collect()).into())
}

fn write(path: &Path, page: &str, found: &[Validation]) -> Result<(), Failure> {
    let text = spliced(path, page, found)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.partial"));
    fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(|error| {
        // The first error is the one to report, whether or not the rest can be removed.
        let _ = fs::remove_file(&partial);
        Diagnostic::error(format!("cannot write the page: {error}")).with_file(path).into()
    })
}
