//! A backend without containers: outcomes are computed from the action, for tests of everything
//! else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::action::{Action, ActionKey, BackendKind, Expected, Image};
use crate::error::BackendError;
use crate::outcome::{Ended, Outcome, Output, ServiceOutcome, Signals, StepOutcome};
use crate::trace::{Attributes, Dropped, Source, Span, SpanKind, Status, StatusCode};
use crate::{Backend, Cancel, Kept};

/// Runs nothing, remembers what it was asked to run.
///
/// A step's argument vector says what comes of it: `exit N` ends with that code, `echo …` prints
/// its words, `span NAME` exports a span, `crash` is a failing engine; anything else ends with 0.
#[derive(Default)]
pub struct Fake {
    /// Images by reference; `host` is always there.
    pub images: Mutex<BTreeMap<String, String>>,
    ran: Mutex<Vec<(ActionKey, Duration)>>,
}

impl Fake {
    /// The keys of the actions run so far, in order, each with how long its services got to export
    /// their spans; forgets them.
    pub fn take_ran(&self) -> Vec<(ActionKey, Duration)> {
        std::mem::take(&mut self.ran.lock().expect("no holder panics"))
    }
}

impl Backend for Fake {
    fn kind(&self) -> BackendKind {
        BackendKind::Fake
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        if reference == "host" {
            return Ok(Some(Image::Host("fake".to_owned())));
        }
        let images = self.images.lock().expect("no holder panics");
        Ok(images.get(reference).map(|id| Image::Id(id.clone())))
    }

    fn keep(&self, _: &Action, _: &str, _: &Cancel, _: &dyn Fn(&Kept)) -> Result<(), BackendError> {
        Err(BackendError::Unavailable {
            engine: "the fake backend".to_owned(),
            reason: "it has nothing to keep".to_owned(),
        })
    }

    fn run(&self, action: &Action, _: &Cancel) -> Result<Outcome, BackendError> {
        self.ran.lock().expect("no holder panics").push((action.key(), action.settle));
        let mut spans = vec![span("clnrm.scenario", 0, Source::Lifecycle)];
        let mut steps = Vec::new();
        let mut stopped = false;
        for (index, step) in action.steps.iter().enumerate() {
            let words: Vec<&str> = step.argv.iter().flat_map(|arg| arg.split(' ')).collect();
            let outcome = if stopped {
                finished(Ended::Skipped, "")
            } else {
                let (ended, stdout) = pretend(&words)?;
                if let Some(at) = words.iter().position(|word| *word == "span") {
                    let name = words.get(at + 1).copied().unwrap_or_default();
                    spans.push(span(name, index as i64 + 1, Source::Otlp));
                }
                finished(ended, &stdout)
            };
            stopped |= match step.goes_on_after {
                Expected::Anything => false,
                Expected::Code(code) => outcome.ended != Ended::Code(code),
                Expected::Failure => outcome.ended == Ended::Code(0),
            };
            steps.push(outcome);
        }
        let services = action.services.iter().map(|_| ServiceOutcome {
            log: Output::default(),
            ended: None,
            failed: None,
        });
        Ok(Outcome {
            steps,
            services: services.collect(),
            spans,
            losses: Vec::new(),
            outside: Vec::new(),
            addresses: Vec::new(),
            settled: action.settle,
            signals: Signals::default(),
            asides: Vec::new(),
            incomplete: Vec::new(),
            doubts: Vec::new(),
            attempts: Some(0),
            isolation: Vec::new(),
            duration: Duration::from_millis(1),
        })
    }
}

fn pretend(words: &[&str]) -> Result<(Ended, String), BackendError> {
    let after = |word: &str| {
        let at = words.iter().position(|found| *found == word)?;
        Some(&words[at + 1..])
    };
    if words.contains(&"crash") {
        return Err(BackendError::Engine {
            engine: "fake".to_owned(),
            operation: "run".to_owned(),
            reason: "it was told to crash".to_owned(),
        });
    }
    let code = after("exit").and_then(|rest| rest.first()?.parse().ok()).unwrap_or(0);
    let stdout = after("echo").map(|rest| rest.join(" ") + "\n").unwrap_or_default();
    Ok((Ended::Code(code), stdout))
}

fn finished(ended: Ended, stdout: &str) -> StepOutcome {
    StepOutcome {
        ended,
        stdout: Output { head: stdout.as_bytes().to_vec(), ..Output::default() },
        stderr: Output::default(),
        duration: Duration::ZERO,
    }
}

fn span(name: &str, at_ms: i64, source: Source) -> Span {
    Span {
        trace_id: format!("{:032x}", 1),
        span_id: format!("{:016x}", at_ms + 1),
        parent_id: None,
        name: name.to_owned(),
        kind: SpanKind::Internal,
        start_ns: at_ms * 1_000_000,
        end_ns: at_ms * 1_000_000 + 500_000,
        status: Status { code: StatusCode::Unset, message: String::new() },
        attributes: Attributes::new(),
        resource: Arc::default(),
        scope: String::new(),
        events: Vec::new(),
        dropped: Dropped::default(),
        source,
    }
}
