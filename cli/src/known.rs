//! Values of roots: of those that were recalled and are all right, no more is held than is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clnrm_engine::{Engine, Query, Stopped, Unit};
use clnrm_queries::{
    CELLS, CHECK, Check, CheckGlance, Diagnostic, REPORT, Report, ReportGlance, Severity,
};

use crate::args::{CheckFormat, Format};
use crate::printer::{Verbosity, verbosity};

/// A root's value.
pub(crate) enum Known<V, G> {
    /// It was recalled, and this is all there is to say of it.
    Green(G),
    /// It was recalled: as it is stored.
    Recalled(Box<[u8]>),
    /// It was asked for.
    Told(Arc<V>),
}

pub(crate) type KnownCheck = Known<Check, GreenCheck>;
pub(crate) type KnownReport = Known<Report, GreenReport>;

/// A check with nothing to say against the file.
pub(crate) struct GreenCheck {
    pub(crate) scenarios: usize,
}

/// A report of a test that passed, with nothing else to say.
pub(crate) struct GreenReport {
    pub(crate) name: Box<str>,
    pub(crate) scenarios: usize,
    pub(crate) duration: Duration,
}

/// How much of what is recalled is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Of what is green, what people are shown.
    Glance,
    /// All of it.
    Whole,
}

/// What is taken for an error besides errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deny {
    /// Nothing.
    Nothing,
    /// What clnrm does not know.
    Unknown,
    /// Whatever is told.
    Warnings,
}

impl Deny {
    /// How bad a diagnostic is taken to be.
    pub(crate) fn severity<S: AsRef<str>>(self, diagnostic: &Diagnostic<S>) -> Severity {
        let denied = match self {
            Deny::Nothing => false,
            Deny::Unknown => {
                let code = diagnostic.code.as_ref();
                code.starts_with("parse/unknown-") || code == "left-out"
            }
            Deny::Warnings => diagnostic.severity == Severity::Warning,
        };
        if denied { Severity::Error } else { diagnostic.severity }
    }

    /// Diagnostics, each as bad as it is taken to be.
    pub(crate) fn taken(self, diagnostics: &[Diagnostic]) -> Vec<Diagnostic> {
        let taken = |one: &Diagnostic| Diagnostic { severity: self.severity(one), ..one.clone() };
        diagnostics.iter().map(taken).collect()
    }

    /// Whether nothing is said against a test that counts as an error.
    pub(crate) fn is_sound(self, check: &Check<&str>) -> bool {
        check.diagnostics.iter().all(|one| self.severity(one) < Severity::Error)
    }
}

impl From<CheckFormat> for Detail {
    fn from(format: CheckFormat) -> Detail {
        match format {
            CheckFormat::Human => Detail::Glance,
            CheckFormat::Json | CheckFormat::Sarif | CheckFormat::Github => Detail::Whole,
        }
    }
}

impl From<Format> for Detail {
    fn from(format: Format) -> Detail {
        match format {
            Format::Human if verbosity() == Verbosity::Verbose => Detail::Whole,
            Format::Human => Detail::Glance,
            Format::Json => Detail::Whole,
        }
    }
}

const SOUND: &str = "the store has what this very program encoded";

impl KnownCheck {
    /// The check, or what there is of it.
    pub(crate) fn view(&self) -> Result<Check<&str>, &GreenCheck> {
        match self {
            Known::Green(green) => Err(green),
            Known::Recalled(encoded) => Ok(Check::decode(encoded).expect(SOUND)),
            Known::Told(check) => Ok(check.view()),
        }
    }
}

impl KnownReport {
    /// The report, or what there is of it.
    pub(crate) fn view(&self) -> Result<Report<&str>, &GreenReport> {
        match self {
            Known::Green(green) => Err(green),
            Known::Recalled(encoded) => Ok(Report::decode(encoded).expect(SOUND)),
            Known::Told(report) => Ok(report.view()),
        }
    }
}

/// The units of tests, with a matrix file's cells in its place, given which of them are known: one
/// that is known to be all right is no matrix file. `None` when there is none among them.
pub(crate) fn expanded(
    engine: &mut Engine,
    units: &[Unit],
    is_known: impl Fn(usize) -> bool,
) -> Option<Vec<Unit>> {
    let open: Vec<Unit> =
        (0..units.len()).filter(|at| !is_known(*at)).map(|at| units[at].clone()).collect();
    let checks = engine.demand(&CHECK, &open);
    let is_matrix = |check: &Result<Arc<Check>, Stopped>| {
        check.as_ref().is_ok_and(|check| check.glance.is_matrix)
    };
    let matrices = open.into_iter().zip(&checks).filter(|(_, check)| is_matrix(check));
    let matrices: Vec<Unit> = matrices.map(|(unit, _)| unit).collect();
    in_cells(engine, units, &matrices)
}

/// Units with the cells of those that are matrix files in their place.
fn in_cells(engine: &mut Engine, units: &[Unit], matrices: &[Unit]) -> Option<Vec<Unit>> {
    if matrices.is_empty() {
        return None;
    }
    let cells = engine.demand(&CELLS, matrices);
    let cells = matrices.iter().zip(cells).filter_map(|(unit, cells)| {
        let cells = cells.ok()?.iter().map(|cell| unit.part(cell.as_str())).collect();
        Some((unit.clone(), cells))
    });
    let cells: BTreeMap<Unit, Vec<Unit>> = cells.collect();
    let cells_of = |unit: &Unit| cells.get(unit).cloned().unwrap_or_else(|| vec![unit.clone()]);
    Some(units.iter().flat_map(cells_of).collect())
}

/// The checks of tests, with the cells of matrix files.
pub(crate) fn checks(
    engine: &mut Engine,
    query: &'static Query<Check>,
    units: Vec<Unit>,
    detail: Detail,
) -> (Vec<Unit>, Vec<Result<KnownCheck, Stopped>>) {
    let mut checks = recalled(engine, query, &units, detail);
    let open: Vec<usize> = (0..units.len()).filter(|at| checks[*at].is_none()).collect();
    let mut matrices = Vec::new();
    if !open.is_empty() {
        let open_units: Vec<Unit> = open.iter().map(|at| units[*at].clone()).collect();
        let told = engine.demand(query, &open_units);
        for (at, check) in open.into_iter().zip(told) {
            if check.as_ref().is_ok_and(|check| check.glance.is_matrix) {
                matrices.push(units[at].clone());
            }
            checks[at] = Some(check.map(Known::Told));
        }
    }
    if let Some(units) = in_cells(engine, &units, &matrices) {
        return self::checks(engine, query, units, detail);
    }
    let told = checks.into_iter().map(|check| check.expect("every open unit was asked for"));
    (units, told.collect())
}

fn recalled(
    engine: &mut Engine,
    query: &'static Query<Check>,
    units: &[Unit],
    detail: Detail,
) -> Vec<Option<Result<KnownCheck, Stopped>>> {
    engine.recall(query, units, |encoded| {
        let CheckGlance { scenarios, worst, is_matrix, .. } = CheckGlance::decode(encoded)?;
        // A matrix file's cells are told of in its place.
        let worst = (!is_matrix).then_some(worst)?;
        Some(Ok(match worst {
            None if detail == Detail::Glance => Known::Green(GreenCheck { scenarios }),
            Some(Severity::Error) => Known::Told(Arc::new(Check::decode(encoded)?)),
            _ => Known::Recalled(encoded.into()),
        }))
    })
}

/// The reports of those units whose tests are known to have passed.
pub(crate) fn passed(
    engine: &Engine,
    units: &[Unit],
    detail: Detail,
) -> Vec<Option<Result<KnownReport, Stopped>>> {
    engine.recall(&REPORT, units, |encoded| {
        let (glance, name) = ReportGlance::decode(encoded)?;
        let ReportGlance { passed, remarks, scenarios, duration } = glance;
        passed.then(|| match detail {
            Detail::Glance if !remarks => {
                Ok(Known::Green(GreenReport { name: name.into(), scenarios, duration }))
            }
            _ => Ok(Known::Recalled(encoded.into())),
        })
    })
}
