//! Reports: all there is to say about a test, as plain data.

mod locate;
pub(crate) mod steps;

use std::time::Duration;

use clnrm_backends::{ActionKey, BackendError, Outcome};
use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

pub(crate) use self::locate::Locator;
use crate::diagnostic::{At, Diagnostic, KeyPath, Problem, Severity};
use crate::expectation::{Expectation, Verdict};
use crate::gaps::GAPS;
use crate::model::{MODEL, Placed, Test};
use crate::outcome::{OUTCOME, Run};
use crate::render::{IS_MATRIX, numbered};
use crate::shape::SHAPE;
use crate::verdict::VERDICT;

/// What the shape check says of a file, with places: the root of `dry-run`.
pub static CHECK: Query<Check> = Query::new("check", 4, check).kept();

/// What came of a test: the root of `run`.
pub static REPORT: Query<Report> = Query::new("report", 6, report).kept();

/// What can be said of a file without running anything.
///
/// `Check<&str>` lies in the encoded value it was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check<S = String> {
    /// What most need to know.
    pub glance: CheckGlance,
    /// The test's name, or the file's path when it has none.
    pub name: S,
    /// Its tags.
    pub tags: Vec<S>,
    /// The names of its scenarios; none in a report, which has what came of them.
    pub scenarios: Vec<S>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic<S>>,
}

impl Check {
    /// The same, with its texts where they are.
    pub fn view(&self) -> Check<&str> {
        Check {
            glance: self.glance,
            name: &self.name,
            tags: self.tags.iter().map(String::as_str).collect(),
            scenarios: self.scenarios.iter().map(String::as_str).collect(),
            diagnostics: self.diagnostics.iter().map(Diagnostic::view).collect(),
        }
    }
}

impl<'a, S: Deserialize<'a>> Check<S> {
    /// Reads an encoded check; `None` when it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Check<S>> {
        postcard::from_bytes(bytes).ok()
    }
}

impl<S> Check<S> {
    /// Whether nothing keeps the test from being run.
    pub fn is_sound(&self) -> bool {
        self.glance.worst < Some(Severity::Error)
    }
}

/// The beginning of an encoded [`Check`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckGlance {
    /// Whether the file says that it is a test.
    pub declared: bool,
    /// Whether it is one test for each cell of a matrix, and this the check of none of them.
    pub is_matrix: bool,
    /// How many scenarios it has.
    pub scenarios: usize,
    /// How bad the worst of its diagnostics is.
    pub worst: Option<Severity>,
}

impl CheckGlance {
    /// Reads the beginning of an encoded check; `None` when it is none.
    pub fn decode(bytes: &[u8]) -> Option<CheckGlance> {
        postcard::take_from_bytes(bytes).ok().map(|(glance, _)| glance)
    }
}

/// What came of a test.
///
/// `Report<&str>` lies in the encoded value it was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report<S = String> {
    /// What most need to know.
    pub glance: ReportGlance,
    /// What could be said before anything ran.
    pub check: Check<S>,
    /// What came of its scenarios, in the order of the file; empty when it could not be run.
    pub scenarios: Vec<ScenarioReport<S>>,
    /// Expectations of the whole test that do not hold.
    pub failures: Vec<Failure>,
    /// What came up besides failures while it was run and judged.
    pub diagnostics: Vec<Diagnostic<S>>,
}

/// The beginning of an encoded [`Report`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportGlance {
    /// Whether all that was expected holds.
    pub passed: bool,
    /// Whether there are diagnostics.
    pub remarks: bool,
    /// How many scenarios were looked at.
    pub scenarios: usize,
    /// How long they took, one after the other.
    pub duration: Duration,
}

impl ReportGlance {
    /// Reads the beginning of an encoded report, and the name of its test; `None` when it is none.
    pub fn decode(bytes: &[u8]) -> Option<(ReportGlance, &str)> {
        type Beginning<'a> = (ReportGlance, CheckGlance, &'a str);
        let ((glance, _, name), _) = postcard::take_from_bytes::<Beginning<'_>>(bytes).ok()?;
        Some((glance, name))
    }
}

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport<S = String> {
    /// Its name.
    pub name: S,
    /// How it stands.
    pub state: State,
    /// The run key, once it could be planned.
    pub key: Option<ActionKey>,
    /// How long the run took.
    pub duration: Duration,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// Spans of the code under test that came in.
    pub spans: u64,
    /// What isolated the run from the machine, with commas in between.
    pub isolation: S,
}

impl ScenarioReport {
    fn view(&self) -> ScenarioReport<&str> {
        ScenarioReport {
            name: &self.name,
            state: self.state.clone(),
            key: self.key,
            duration: self.duration,
            failures: self.failures.clone(),
            spans: self.spans,
            isolation: &self.isolation,
        }
    }
}

/// How a scenario or a test stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// All that was expected holds.
    Passed,
    /// Something does not.
    Failed,
    /// It could not be planned; diagnostics say why.
    Broken,
    /// The engine failed.
    Crashed(BackendError),
    /// It has not been run yet.
    Pending,
}

/// Something expected that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What was expected: a step, or a key of the file.
    pub subject: String,
    /// Why it does not hold.
    pub message: String,
    /// What came closest.
    pub nearest: Option<String>,
    /// Output that helps, if there is any.
    pub output: Option<String>,
    /// Path relative to the workspace.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// From 1; 0 when the line as a whole is meant.
    pub column: u32,
}

impl Report {
    /// The same, with its texts where they are.
    pub fn view(&self) -> Report<&str> {
        Report {
            glance: self.glance,
            check: self.check.view(),
            scenarios: self.scenarios.iter().map(ScenarioReport::view).collect(),
            failures: self.failures.clone(),
            diagnostics: self.diagnostics.iter().map(Diagnostic::view).collect(),
        }
    }
}

impl<'a, S: Deserialize<'a>> Report<S> {
    /// Reads an encoded report; `None` when it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Report<S>> {
        postcard::from_bytes(bytes).ok()
    }
}

impl<S> Report<S> {
    /// How the test stands as a whole.
    pub fn state(&self) -> State {
        let states = || self.scenarios.iter().map(|scenario| &scenario.state);
        if !self.check.is_sound() || states().any(|state| *state == State::Broken) {
            return State::Broken;
        }
        if let Some(crash) = states().find(|state| matches!(state, State::Crashed(_))) {
            return crash.clone();
        }
        if states().any(|state| *state == State::Pending) {
            return State::Pending;
        }
        let failed = !self.failures.is_empty() || states().any(|state| *state == State::Failed);
        if failed { State::Failed } else { State::Passed }
    }

    /// All diagnostics, those of the check first.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic<S>> {
        self.check.diagnostics.iter().chain(&self.diagnostics)
    }
}

fn check(cx: &Cx<'_>, unit: &Unit) -> Check {
    let shape = cx.get(&SHAPE, unit);
    let locator = Locator::new(cx, unit);
    let diagnostics = locator.diagnostics(&shape.problems);
    let worst = diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
    Check {
        glance: CheckGlance {
            declared: shape.declared,
            is_matrix: shape.problems.iter().any(|problem| problem.code == IS_MATRIX),
            scenarios: shape.scenarios.len(),
            worst,
        },
        name: if shape.name.is_empty() { unit.path.to_string() } else { shape.name.clone() },
        tags: shape.tags.clone(),
        scenarios: shape.scenarios.clone(),
        diagnostics,
    }
}

fn report(cx: &Cx<'_>, unit: &Unit) -> Report {
    let mut check = cx.get(&CHECK, unit).as_ref().clone();
    check.scenarios.clear();
    check.glance.worst = check.diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
    let mut report = Report {
        glance: ReportGlance {
            passed: false,
            remarks: false,
            scenarios: 0,
            duration: Duration::ZERO,
        },
        check,
        scenarios: Vec::new(),
        failures: Vec::new(),
        diagnostics: Vec::new(),
    };
    let model = cx.get(&MODEL, unit);
    if let Ok(test) = model.as_ref()
        && report.check.is_sound()
    {
        let mut reporter = Reporter { cx, unit, test, locator: Locator::new(cx, unit) };
        reporter.scenarios(&mut report);
        reporter.expectations(&mut report);
        reporter.own_spans(&mut report);
    }
    let remarks = report.diagnostics().next().is_some();
    report.glance = ReportGlance {
        passed: report.state() == State::Passed,
        remarks,
        scenarios: report.scenarios.len(),
        duration: report.scenarios.iter().map(|scenario| scenario.duration).sum(),
    };
    report
}

struct Reporter<'a> {
    cx: &'a Cx<'a>,
    unit: &'a Unit,
    test: &'a Test,
    locator: Locator<'a>,
}

impl Reporter<'_> {
    fn scenarios(&mut self, report: &mut Report) {
        for (index, scenario) in self.test.scenarios.iter().enumerate() {
            let run = self.cx.get(&OUTCOME, &numbered(self.unit, index));
            let mut entry = ScenarioReport {
                name: scenario.name.clone(),
                state: State::Pending,
                key: None,
                duration: Duration::ZERO,
                failures: Vec::new(),
                spans: 0,
                isolation: String::new(),
            };
            match run.as_ref() {
                Run::Unplanned(problems) => {
                    entry.state = State::Broken;
                    self.tell(problems, report);
                }
                Run::Pending(key) => entry.key = Some(*key),
                Run::Failed(key, error) => {
                    entry.key = Some(*key);
                    entry.state = State::Crashed(error.clone());
                }
                Run::Ran(key, outcome) => {
                    entry.key = Some(*key);
                    entry.duration = outcome.duration;
                    entry.spans = steps::spans_of_code(outcome);
                    entry.isolation = outcome.isolation.join(", ");
                    let doubt = |doubt: &String| {
                        let at = At::Key(scenario.path.clone());
                        Problem::warning("run/doubtful", at, doubt.clone())
                    };
                    let doubts: Vec<Problem> = outcome.doubts.iter().map(doubt).collect();
                    self.tell(&doubts, report);
                    self.tell(&self.gaps(index, outcome), report);
                    entry.failures = steps::failures(self.test, scenario, outcome, &self.locator);
                    let failed = !entry.failures.is_empty();
                    entry.state = if failed { State::Failed } else { State::Passed };
                }
            }
            report.scenarios.push(entry);
        }
    }

    /// What a scenario's spans are known to lack, apart from what fails its run.
    fn gaps(&self, index: usize, outcome: &Outcome) -> Vec<Problem> {
        let scenario = &self.test.scenarios[index];
        let fails = |told| !scenario.allow_incomplete && outcome.incomplete.contains(told);
        let gaps = self.cx.get(&GAPS, &numbered(self.unit, index));
        let warning = |told: &String| {
            Problem::warning("run/incomplete", At::Key(scenario.path.clone()), told.clone())
        };
        gaps.iter().map(|gap| &gap.told).filter(|told| !fails(told)).map(warning).collect()
    }

    fn expectations(&mut self, report: &mut Report) {
        for (index, placed) in self.test.expectations.iter().enumerate() {
            let verdict = self.cx.get(&VERDICT, &numbered(self.unit, index));
            let Some(verdict) = verdict.as_ref() else { continue };
            let failures = self.failures(&placed.path, verdict);
            self.warn(&placed.path, verdict, report);
            match placed.scenario.and_then(|index| report.scenarios.get_mut(index)) {
                Some(scenario) if !failures.is_empty() => {
                    scenario.state = State::Failed;
                    scenario.failures.extend(failures);
                }
                Some(_) => {}
                None => report.failures.extend(failures),
            }
        }
    }

    /// Warns of a test that expects no more than spans of clnrm that every run has, when no code has
    /// exported any: it judges no code.
    fn own_spans(&self, report: &mut Report) {
        let exported: u64 = report.scenarios.iter().map(|scenario| scenario.spans).sum();
        let of_every_run = |placed: &Placed| match &placed.expectation {
            Expectation::Span(span) => {
                let named = ["clnrm.run", "clnrm.test", "clnrm.scenario."];
                span.of_clnrm || named.iter().any(|name| span.name.starts_with(name))
            }
            _ => false,
        };
        let all = &self.test.expectations;
        let Some(placed) = all.first().filter(|_| all.iter().all(of_every_run)) else { return };
        if exported > 0 || report.state() != State::Passed {
            return;
        }
        let message = "only spans that clnrm makes in every run are expected: no code is judged";
        let problem = Problem::warning("judge/own-spans", At::Key(placed.path.clone()), message);
        let problem =
            problem.hint("expect a span of the code under test, or look at exit codes and output");
        report.diagnostics.push(self.locator.diagnostic(&problem));
    }

    fn failures(&self, path: &KeyPath, verdict: &Verdict) -> Vec<Failure> {
        let spans = verdict.looked_at;
        let failures = verdict.failures.iter().map(|failure| {
            let (subject, at) = match failure.rule.as_str() {
                "" => (path.to_string(), path.clone()),
                rule => (format!("{path}.{rule}"), steps::rule_path(path, rule)),
            };
            let locate::Place { line, column, .. } = self.locator.place(&At::Key(at));
            let many = if spans == 1 { "span" } else { "spans" };
            Failure {
                subject,
                message: format!("{} ({spans} {many} looked at)", failure.message),
                nearest: failure.nearest.clone(),
                output: None,
                file: self.unit.path.to_string(),
                line,
                column,
            }
        });
        failures.collect()
    }

    fn warn(&self, path: &KeyPath, verdict: &Verdict, report: &mut Report) {
        for warning in &verdict.warnings {
            let at = At::Key(path.clone());
            let problem = Problem::warning(warning.about.code(), at, warning.told.clone());
            report.diagnostics.push(self.locator.diagnostic(&problem));
        }
    }

    /// Adds problems that are not told yet: scenarios share services, and so their problems.
    fn tell(&self, problems: &[Problem], report: &mut Report) {
        for problem in problems {
            let diagnostic = self.locator.diagnostic(problem);
            if !report.diagnostics.contains(&diagnostic) {
                report.diagnostics.push(diagnostic);
            }
        }
    }
}
