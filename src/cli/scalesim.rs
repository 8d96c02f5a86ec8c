//! `systole scalesim`: reads SCALE-Sim's files, writes its reports, and says what was left out.

use std::{fmt::Write as _, fs, path::Path};

use super::{exit::Failure, settings::ScaleSimSettings};
use crate::{
    config::{
        self,
        scalesim::{Interface, ScaleSimConfig},
    },
    diag::{Diagnostic, Progress},
    import::scalesim::{self, Form, Topology},
    pipeline,
    scalesim::{LayerReport, Reports},
};

/// Largest layout file; its contents have no effect.
const MAX_LAYOUT_BYTES: u64 = 16 << 20;

/// What to show, and what to say beside it.
pub struct Answer {
    /// For standard output.
    pub text: String,
    /// For standard error.
    pub findings: Vec<Diagnostic>,
}

/// Answers a topology and writes the reports.
///
/// # Errors
/// A config that is at fault, files that cannot be read or written, and a topology of which nothing is left.
pub fn run(settings: &ScaleSimSettings, progress: &mut dyn Progress) -> Result<Answer, Failure> {
    let (config, mut findings) = config::load_scalesim(&settings.config)?;
    if let Some(layout) = &settings.layout {
        check_layout(layout)?;
    }
    let form = settings.gemm.then_some(Form::Products);
    let mut topology = scalesim::read(&settings.topology, form.or(Some(Form::Convolutions)))?;
    findings.append(&mut topology.findings);

    let needs_own = settings.explain || config.interface == Interface::User;
    let machine = needs_own.then(|| config::load(&settings.config, &[])).transpose()?;
    let own = machine.as_ref().map(|machine| pipeline::scalesim_own(machine, &topology, progress));
    let answers: Vec<Result<LayerReport, String>> = match (config.interface, &own) {
        (Interface::User, Some(own)) => own
            .iter()
            .map(|own| own.as_ref().map(|own| pipeline::in_its_columns(&config, own)).map_err(ToString::to_string))
            .collect(),
        _ => pipeline::scalesim_calc(&config, &topology, progress)
            .into_iter()
            .map(|report| report.map_err(|error| error.to_string()))
            .collect(),
    };

    let mut reports = Reports::default();
    let mut answered = 0_usize;
    for (id, (layer, answer)) in topology.layers.iter().zip(answers).enumerate() {
        match answer {
            Ok(report) => {
                reports.add(id, &report);
                answered += 1;
            }
            Err(message) => findings.push(
                Diagnostic::warning(format!("line {}: layer `{}` is left out: {message}", layer.line, layer.name))
                    .with_file(&settings.topology),
            ),
        }
    }
    if answered == 0 {
        findings.push(Diagnostic::error("no layer of the topology could be answered").with_file(&settings.topology));
        return Err(crate::diag::Faults(findings).into());
    }
    let folder = settings.out.join(&config.run_name);
    write(&folder, &reports)?;
    let text = summary(&config, &topology, answered, &folder, own.filter(|_| settings.explain).as_deref());
    Ok(Answer { text, findings })
}

fn summary(
    config: &ScaleSimConfig,
    topology: &Topology,
    answered: usize,
    folder: &Path,
    own: Option<&[Result<pipeline::OwnTiming, pipeline::Failure>]>,
) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", pipeline::answered_by(config));
    if let Some(own) = own {
        let _ = writeln!(text, "\n{}", pipeline::explain(config, topology, own).trim_end());
        text.push('\n');
    }
    let _ = writeln!(text, "{answered} layers; wrote 3 reports into {}", folder.display());
    text
}

/// A layout says how banks hold operands, which has no effect here; it must be a file all the same.
fn check_layout(path: &Path) -> Result<(), Failure> {
    let fault = |message: String| Failure::from(Diagnostic::error(message).with_file(path));
    let metadata = fs::metadata(path).map_err(|error| fault(format!("cannot open the layout: {error}")))?;
    if !metadata.is_file() || metadata.len() > MAX_LAYOUT_BYTES {
        return Err(fault("a layout is a file of at most 16 MiB".to_owned()));
    }
    Ok(())
}

fn write(folder: &Path, reports: &Reports) -> Result<(), Failure> {
    let unwritten = |path: &Path, error: std::io::Error| {
        Failure::from(
            Diagnostic::error(format!("cannot write `{}`: {error}", path.display()))
                .with_help("give another folder to -o"),
        )
    };
    fs::create_dir_all(folder).map_err(|error| unwritten(folder, error))?;
    for (name, text) in reports.files() {
        let (path, partial) = (folder.join(name), folder.join(format!(".{name}.partial")));
        fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path)).map_err(|error| {
            // The first error is the one to report, whether or not the rest can be removed.
            let _ = fs::remove_file(&partial);
            unwritten(&path, error)
        })?;
    }
    Ok(())
}
