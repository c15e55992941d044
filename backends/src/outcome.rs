//! What came of a run: evidence only; judging it is somebody else's work.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::{Span, packed};

/// What a run left behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// One entry a step of the action, in order.
    pub steps: Vec<StepOutcome>,
    /// One entry a service of the action, in order.
    pub services: Vec<ServiceOutcome>,
    /// Every span, those of clnrm itself included; times are nanoseconds since the run began.
    #[serde(with = "packed")]
    pub spans: Vec<Span>,
    /// Why the evidence is not whole (an overflow, a limit); empty when it is.
    pub incomplete: Vec<String>,
    /// What the user should know although nothing is missing for certain; such an outcome is not
    /// kept either.
    pub doubts: Vec<String>,
    /// What is known to be missing from the spans although the run went well, a sentence each (a
    /// value that could not be read, say). The outcome is kept; no expectation of absence holds
    /// over it.
    pub losses: Vec<String>,
    /// Names and addresses outside the test that something inside tried to reach.
    pub outside: Vec<Contact>,
    /// The addresses that its services had in their network, besides loopback.
    pub addresses: Vec<IpAddr>,
    /// How long services had at least, after the last step, to export their spans.
    pub settled: Duration,
    /// The other signals that were exported; nobody judges them.
    pub signals: Signals,
    /// What the user should know of this run, and of no other that is judged by it.
    #[serde(skip)]
    pub asides: Vec<String>,
    /// How often something inside tried to reach an address outside, as the kernel counts it; `None`
    /// when it does not say.
    pub attempts: Option<u64>,
    /// What isolated the run from the machine, for the report.
    pub isolation: Vec<String>,
    /// From the first container's start to the last one's end.
    pub duration: Duration,
}

impl Outcome {
    /// Whether the run ended by itself with its traces whole; only such outcomes are stored.
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_empty()
            && self.doubts.is_empty()
            && !self.steps.iter().any(|step| step.ended == Ended::TimedOut)
            && self.services.iter().all(|service| service.failed.is_none())
    }
}

/// An attempt to reach something outside the test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact {
    /// The name that was looked up, or the address.
    pub host: String,
    /// The port, where an address was tried.
    pub port: Option<u16>,
    /// The service in whose container it was tried; `None` where the backend cannot tell.
    pub service: Option<String>,
    /// The step that ran in that container then.
    pub step: Option<String>,
    /// How often.
    pub count: u64,
}

/// Logs and metrics as they were exported, as far as there is room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Requests of OTLP's logs service, in protobuf.
    pub logs: Vec<Vec<u8>>,
    /// Requests of OTLP's metrics service, in protobuf.
    pub metrics: Vec<Vec<u8>>,
    /// Requests that were taken and not kept, for want of room.
    pub left_out: u64,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// How it ended.
    pub ended: Ended,
    /// What it wrote.
    pub stdout: Output,
    /// What it wrote to its standard error.
    pub stderr: Output,
    /// How long it ran.
    pub duration: Duration,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed at its limit.
    TimedOut,
    /// It could not be started, for this reason (no such program, say).
    NotStarted(String),
    /// What it waited for did not come; this came instead.
    Missed(String),
    /// It was not tried, because an earlier step had not ended as expected.
    Skipped,
}

/// What came of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceOutcome {
    /// Its output, both streams as they came.
    pub log: Output,
    /// How its process ended before it was stopped; `None` when it ran to the end or was idle.
    pub ended: Option<Ended>,
    /// Why it did not become ready, if so.
    pub failed: Option<String>,
}

/// Captured output: the first and the last part of it when it was long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The beginning.
    pub head: Vec<u8>,
    /// The end, when something was dropped between the two.
    pub tail: Vec<u8>,
    /// Bytes dropped between `head` and `tail`.
    pub dropped: u64,
}

impl Output {
    /// As text, with a line in place of what was dropped.
    pub fn text(&self) -> String {
        let head = String::from_utf8_lossy(&self.head);
        if self.dropped == 0 {
            return head.into_owned();
        }
        let tail = String::from_utf8_lossy(&self.tail);
        format!("{head}\n[clnrm: {} bytes left out]\n{tail}", self.dropped)
    }
}
