//! SCALE-Sim's cycles against our own array's, fold by fold: where two descriptions of an array part.

use std::collections::BTreeMap;

use super::{
    Compared, Findings, Kind, Row, Settings, Source, array,
    scalesim::{TABLE, group, question},
};
use crate::{
    config::{self, scalesim::Stays},
    diag::{self, Diagnostic, Progress},
    pipeline::Failure,
    scalesim::Folds,
};

pub(super) const SOURCE: Source = Source {
    name: "scalesim_array",
    title: "SCALE-Sim's cycles and our own array's",
    kind: Kind::External,
    is_exact: false,
    is_quick: true,
    about: "The same layers on our own array, on the machine that `systole run X.cfg` makes of the config: its folds one after the other, \
            each with its load, stream and drain, through the array's law. Memory takes no time on either side.",
    run,
};

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table(TABLE)?;
    let mut groups: BTreeMap<String, Compared> = BTreeMap::new();
    let (mut layers, mut as_told) = (0_u64, 0_u64);
    for line in table.lines() {
        let (config, layer) = question(&line)?;
        let folds = Folds::of(&layer, &config).map_err(|error| Diagnostic::error(error.to_string()))?;
        let source =
            diag::Source { name: "the machine of a published figure".to_owned(), text: config.machine().into() };
        let machine = config::load_source(&source, &[])?;
        let count = folds.row_folds * folds.col_folds;
        let ours = array::folds(&machine, count, folds.beats)?;
        let theirs = line.count("total_cycles")?;
        let compared = groups.entry(group(&line)?).or_default();
        compared.add(ours as f64, theirs as f64);
        compared.show(ours as f64, theirs as f64);
        let drain = if folds.dataflow == Stays::Outputs { count * folds.rows } else { 0 };
        layers += 1;
        as_told += u64::from(ours == theirs + 1 + drain);
    }
    let rows = groups.into_iter().map(|(what, compared)| Row::group(what, "cycles", compared)).collect();
    let notes = vec![
        format!(
            "{as_told} of {layers} layers differ by exactly what is wrong with theirs: one cycle, for the total is the number of its last \
             cycle counted from 0, and in OS another R cycles a fold, in which a sum moves down the rows; theirs leave the array before \
             their last operands have reached them."
        ),
        "Folds that overlap and loads that hide make a layer on our machines faster than both; `systole scalesim --explain` takes that \
         apart."
            .to_owned(),
    ];
    Ok(Findings { rows, notes, ..Findings::default() })
}
