//! Runs an action in a cell: the same choreography on every backend.

mod allowed;
mod lifecycle;
mod lines;
mod log_pattern;
mod published;
mod service;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use self::allowed::Outside;
use self::lifecycle::Lifecycle;
use self::lines::Lines;
use self::published::Inside;
use self::service::Service;
use self::settle::{Settled, settle};
use crate::action::{Action, Awaited, Expected, Forward, Network, Readiness, Retry, StepPlan};
use crate::agent;
use crate::cell::{Cell, Container, HOSTS, Started, Wiring};
use crate::error::BackendError;
use crate::kept::{Door, Kept};
use crate::link::{Lost, Progress};
use crate::otlp::{Inbox, Onward, Receiver};
use crate::outcome::{Contact, Ended, Outcome, Output, ServiceOutcome, StepOutcome};
use crate::output::Capture;
use crate::trace::{Source, Span};

/// How long a service may take to end when asked.
const GRACE: Duration = Duration::from_secs(3);
/// How long connections to the receiver may stay open once everything has ended.
const SETTLE: Duration = Duration::from_secs(5);

/// How long the making of a run's folder takes at most.
const MADE_WITHIN: Duration = Duration::from_secs(5);
/// How long the end of a killed process may take to be told.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// What the names of runs' folders begin with.
pub(crate) const FOLDER_PREFIX: &str = "clnrm-run-";
/// A file in each of them that is locked as long as its process lives.
pub(crate) const LOCK: &str = "lock";

/// A wish to stop, shared by all runs.
#[derive(Clone, Debug, Default)]
pub struct Cancel(CancellationToken);

impl Cancel {
    /// Stops every run that holds this, as soon as it can.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// One of its own for a part of the work, which ends with this.
    #[must_use]
    pub fn child(&self) -> Cancel {
        Cancel(self.0.child_token())
    }

    /// Whether it was triggered.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Runs `action` in `cell`, which is destroyed in any case.
pub(crate) async fn run(
    cell: &mut impl Cell,
    action: &Action,
    cancel: &Cancel,
) -> Result<Outcome, BackendError> {
    let folder = RunFolder::make()?;
    let outcome = tokio::select! {
        outcome = attempt(cell, action, folder.path()) => outcome,
        () = cancel.0.cancelled() => Err(BackendError::Cancelled),
    };
    cell.destroy(folder);
    outcome
}

/// Runs `action` in `cell` up to its end, and keeps it up until cancelled.
pub(crate) async fn keep(
    cell: &mut impl Cell,
    action: &Action,
    scenario: &str,
    cancel: &Cancel,
    up: &dyn Fn(&Kept),
) -> Result<(), BackendError> {
    let folder = RunFolder::make()?;
    let kept = tokio::select! {
        kept = keep_up(cell, action, scenario, folder.path(), up) => kept,
        () = cancel.0.cancelled() => Ok(()),
    };
    cell.destroy(folder);
    kept
}

async fn keep_up(
    cell: &mut impl Cell,
    action: &Action,
    scenario: &str,
    folder: &Path,
    up: &dyn Fn(&Kept),
) -> Result<(), BackendError> {
    let wiring = wiring(cell, action).await?;
    let mut run = Run::begin(action, wiring, folder)?;
    let ready = run.start_services(cell).await?;
    if action.concurrent && ready {
        try_join_all(action.steps.iter().map(|step| run.tries(step))).await?;
    } else {
        run.one_after_another(ready).await?;
    }
    let doors = action.services.iter().zip(cell.ways());
    let doors = doors.map(|(service, way)| Door { service: service.name.clone(), way });
    let scenario = scenario.to_owned();
    let kept = Kept { scenario, doors: doors.collect(), published: run.inside.ports() };
    kept.write(folder).map_err(unusable_folder)?;
    up(&kept);
    std::future::pending().await
}

async fn attempt(
    cell: &mut impl Cell,
    action: &Action,
    folder: &Path,
) -> Result<Outcome, BackendError> {
    allowed::probe(action).await?;
    let wiring = wiring(cell, action).await?;
    let mut run = Run::begin(action, wiring, folder)?;
    let ready = run.start_services(cell).await?;
    run.isolation = cell.isolation();
    if run.wiring == Wiring::Linked {
        run.addresses = (0..run.services.len()).filter_map(|index| cell.address(index)).collect();
    }
    run.steps = if action.concurrent && ready {
        let all = action.steps.iter().map(|step| run.tries(step));
        try_join_all(all).await?
    } else {
        run.one_after_another(ready).await?
    };
    if ready {
        run.settle().await?;
    }
    let timed_out = run.steps.iter().any(|step| step.ended == Ended::TimedOut);
    if timed_out && run.deadline <= Instant::now() {
        run.incomplete.push(format!("the run reached its limit of {:?}", action.time_limit));
    }
    run.end().await
}

/// How the containers of `action` find each other: on one network, unless two of them listen on
/// the same port.
async fn wiring(cell: &mut impl Cell, action: &Action) -> Result<Wiring, BackendError> {
    if action.network == Network::None {
        return Ok(Wiring::Apart);
    }
    let mut claimed = BTreeSet::new();
    if let [_, _, ..] = &action.services[..] {
        for service in &action.services {
            let mut ports: BTreeSet<u16> = cell.exposed(service).await?.into_iter().collect();
            ports.extend(&service.ports);
            ports.extend(service.ready.iter().filter_map(|ready| match ready {
                Readiness::Port(port) | Readiness::Http { port, .. } => Some(port),
                _ => None,
            }));
            if !claimed.is_disjoint(&ports) {
                return Ok(Wiring::Linked);
            }
            claimed.extend(ports);
        }
    }
    Ok(Wiring::Shared)
}

impl Expected {
    fn holds(self, ended: &Ended) -> bool {
        match self {
            Expected::Anything => true,
            // As shells have it, a signal is 128 and its number.
            Expected::Code(code) => match ended {
                Ended::Code(ended) => *ended == code,
                Ended::Signal(signal) => 128 + signal == code,
                _ => false,
            },
            Expected::Failure => matches!(ended, Ended::Code(1..) | Ended::Signal(_)),
        }
    }
}

/// A run under way.
struct Run<'a> {
    action: &'a Action,
    wiring: Wiring,
    deadline: Instant,
    lifecycle: Lifecycle,
    folder: &'a Path,
    receiver: Receiver,
    onward: Option<Onward>,
    services: Vec<Service>,
    steps: Vec<StepOutcome>,
    incomplete: Vec<String>,
    doubts: Vec<String>,
    asides: Vec<String>,
    /// `None` as long as nothing is known.
    attempts: Option<u64>,
    isolation: Vec<String>,
    addresses: Vec<IpAddr>,
    contacts: Vec<Contact>,
    processes: Processes,
    outside: Outside,
    inside: Inside,
}

impl<'a> Run<'a> {
    fn begin(action: &'a Action, wiring: Wiring, folder: &'a Path) -> Result<Self, BackendError> {
        let first = folder.join("0");
        std::fs::create_dir(&first).map_err(unusable_folder)?;
        let onward = action.forward.as_ref().map(Onward::begin);
        let receiver = Receiver::listen(&first.join(agent::OTLP_SOCKET), onward.as_ref());
        let receiver = receiver.map_err(unusable_folder)?;
        Ok(Run {
            action,
            wiring,
            deadline: Instant::now() + action.time_limit,
            lifecycle: Lifecycle::begin(),
            folder,
            receiver,
            onward,
            services: Vec::new(),
            steps: Vec::new(),
            incomplete: Vec::new(),
            doubts: Vec::new(),
            asides: Vec::new(),
            attempts: None,
            isolation: Vec::new(),
            addresses: Vec::new(),
            contacts: Vec::new(),
            processes: Mutex::default(),
            outside: Outside::of(action),
            inside: Inside::new(),
        })
    }

    /// Starts the services in order; false when one of them did not become ready.
    async fn start_services(&mut self, cell: &mut impl Cell) -> Result<bool, BackendError> {
        for (index, plan) in self.action.services.iter().enumerate() {
            let span = self.lifecycle.open(format!("{}.start", plan.name));
            let folder = self.folder.join(index.to_string());
            let listener = listen(&folder)?;
            if index > 0 && self.wiring != Wiring::Shared {
                let [first, own] =
                    [&self.folder.join("0"), &folder].map(|folder| folder.join(agent::OTLP_SOCKET));
                std::fs::hard_link(first, own).map_err(unusable_folder)?;
            }
            self.outside.listen(&folder).map_err(unusable_folder)?;
            let container = Container {
                service: plan,
                limits: &self.action.limits,
                index,
                wiring: self.wiring,
                network: self.action.network,
                hosts: &self.hosts(cell, index),
                folder: &folder,
                listener: &listener,
            };
            let Started { link, command } = cell.start(&container).await?;
            if self.wiring == Wiring::Linked {
                self.make_known(cell, index).map_err(unusable_folder)?;
            }
            let link = Arc::new(link);
            self.outside.offer(&link, self.action).await.map_err(lost)?;
            self.inside.publish(plan, &folder, &link).await.map_err(unusable_folder)?;
            let env = self.lifecycle.environment(self.action, &plan.name, &span);
            let limit = plan.ready_limit.min(self.deadline.duration_since(Instant::now()));
            let lines = Lines::new(self.stdout_inbox());
            let started = Service::start(plan, link, command, env, lines).await.map_err(lost)?;
            let ready = started.ready(plan, limit, &self.receiver.inbox()).await.map_err(lost)?;
            self.lifecycle.close(span, ready.is_ok());
            self.services.push(started);
            if let Err(reason) = ready {
                self.services[index].failed = Some(reason);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The text of a service's `/etc/hosts`.
    fn hosts(&self, cell: &impl Cell, index: usize) -> String {
        let mut own = String::new();
        let mut others = String::new();
        for (other, service) in self.action.services.iter().enumerate() {
            let address = cell.address(other).filter(|_| self.wiring == Wiring::Linked);
            match address {
                Some(address) => others += &format!("{address} {}\n", service.name),
                None if other == index || self.wiring == Wiring::Shared => {
                    own += &format!(" {}", service.name);
                }
                None => {}
            }
        }
        let allowed = allowed::names(self.action);
        format!("127.0.0.1 localhost{own}\n::1 localhost\n{others}{allowed}")
    }

    /// Tells all containers so far of the latest one's address.
    fn make_known(&self, cell: &impl Cell, latest: usize) -> std::io::Result<()> {
        (0..=latest).try_for_each(|index| {
            let file = self.folder.join(index.to_string()).join(HOSTS);
            std::fs::write(file, self.hosts(cell, index))
        })
    }

    /// Where spans on standard output go, if they are looked for.
    fn stdout_inbox(&self) -> Option<Inbox> {
        self.action.spans_on_stdout.then(|| self.receiver.inbox())
    }

    /// The steps, each after the one before ended as expected.
    async fn one_after_another(&self, ready: bool) -> Result<Vec<StepOutcome>, BackendError> {
        let (mut outcomes, mut goes_on) = (Vec::new(), ready);
        for step in &self.action.steps {
            let outcome = if goes_on { self.tries(step).await? } else { skipped() };
            goes_on &= step.goes_on_after.holds(&outcome.ended);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Tries a step as often as it takes, and may.
    async fn tries(&self, step: &StepPlan) -> Result<StepOutcome, BackendError> {
        if let Some(Retry { attempts, delay, until }) = &step.retry {
            for _ in 1..*attempts {
                let outcome = self.step(step).await?;
                let left = self.deadline.saturating_duration_since(Instant::now());
                if until.holds(&outcome.ended) || left < *delay {
                    return Ok(outcome);
                }
                tokio::time::sleep(*delay).await;
            }
        }
        self.step(step).await
    }

    /// Waits for spans of the code under test.
    async fn wait(&self, step: &StepPlan, awaited: &Awaited) -> StepOutcome {
        let (began, inbox) = (Instant::now(), self.receiver.inbox());
        let Awaited { span, count } = awaited;
        let limit = step.time_limit.min(self.deadline.saturating_duration_since(began));
        let arrived = tokio::time::timeout(limit, inbox.heard_of(span, *count)).await;
        let ended = match arrived {
            Ok(()) => Ended::Code(0),
            Err(_) => {
                let names = inbox.names();
                let all = names.iter().map(|(name, count)| format!("`{name}` ({count})"));
                let came = match names.is_empty() {
                    true => "no spans came".to_owned(),
                    false => format!("there came {}", all.collect::<Vec<_>>().join(", ")),
                };
                Ended::Missed(format!("{count} of `{span}` did not come within {limit:?}: {came}"))
            }
        };
        let none = Output::default;
        StepOutcome { ended, stdout: none(), stderr: none(), duration: began.elapsed() }
    }

    async fn step(&self, step: &StepPlan) -> Result<StepOutcome, BackendError> {
        if let Some(awaited) = &step.awaits {
            return Ok(self.wait(step, awaited).await);
        }
        let service = &self.services[step.service];
        let name = &self.action.services[step.service].name;
        let span = self.lifecycle.open(format!("clnrm.step:{}", step.name));
        let exec = self.lifecycle.open(format!("{name}.exec"));
        let began = Instant::now();
        let (ended, stdout, stderr) = if let Some(ended) = service.ended() {
            let reason = format!("service `{name}` had already {}", describe(&ended));
            (Ended::NotStarted(reason), Output::default(), Output::default())
        } else {
            let mut env = self.lifecycle.environment(self.action, name, &span);
            let plan = &self.action.services[step.service];
            env.extend(plan.env.clone());
            env.extend(step.env.clone());
            let workdir = step.workdir.clone().or_else(|| plan.workdir.clone());
            let left = self.deadline.saturating_duration_since(began);
            let limit = step.time_limit.min(left);
            let lines = Lines::new(self.stdout_inbox());
            let began = |id| {
                let mut processes = self.processes.lock().expect("no holder panics");
                processes.insert((step.service, id), step.name.clone());
            };
            execute(service, step, env, workdir, limit, lines, began).await.map_err(lost)?
        };
        let good = ended == Ended::Code(0);
        self.lifecycle.close(exec, good);
        self.lifecycle.close(span, good);
        Ok(StepOutcome { ended, stdout, stderr, duration: began.elapsed() })
    }

    /// Gives what still runs the time to export its spans, where they are judged.
    async fn settle(&mut self) -> Result<(), BackendError> {
        let least = self.action.settle;
        if least.is_zero() || !self.has_processes().await? {
            return Ok(());
        }
        match settle(&self.receiver.inbox(), least, self.deadline).await {
            Settled::Quiet => {}
            Settled::Busy => self.asides.push(
                "its services went on exporting spans until they were stopped: the last of them \
                 may be missing"
                    .to_owned(),
            ),
            Settled::Loaded => self.doubts.push(format!(
                "the machine was too busy to give services {least:?} to export their last spans; \
                 some may be missing"
            )),
        }
        Ok(())
    }

    /// Whether a process runs in any container, besides its agent.
    async fn has_processes(&self) -> Result<bool, BackendError> {
        for service in &self.services {
            if service.link.has_processes().await.map_err(lost)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stops everything, last service first, and gathers the evidence.
    async fn end(mut self) -> Result<Outcome, BackendError> {
        let shared = self.wiring == Wiring::Shared;
        let mut outcomes = Vec::new();
        for (index, service) in self.services.drain(..).enumerate().rev() {
            let span = self.lifecycle.open(format!("{}.stop", self.action.services[index].name));
            let before = service.ended();
            let stopped = service.link.stop(GRACE).await.map_err(lost)?;
            self.attempts = match (self.attempts, stopped.unrouted) {
                _ if self.action.network == Network::Open => None,
                (Some(all), Some(more)) if !shared => Some(all + more),
                // Those of one network share what is counted.
                (all, one) => all.max(one),
            };
            if !stopped.drained {
                self.incomplete.push("spans were still on their way when the run ended".to_owned());
            }
            if stopped.killed {
                let name = &self.action.services[index].name;
                self.doubts.push(format!(
                    "service `{name}` did not end within {GRACE:?} of being asked to and was killed: \
                     spans it had not exported by then are lost"
                ));
            }
            let (name, limits) = (&self.action.services[index].name, &self.action.limits);
            self.doubts.extend(stopped.limits_met(name, limits));
            self.contacts.extend(contacts(index, name, &service, &self.processes));
            self.lifecycle.close(span, true);
            outcomes.push(service.outcome(before).await);
        }
        outcomes.reverse();
        outcomes.resize_with(self.action.services.len(), || ServiceOutcome {
            log: Output::default(),
            ended: None,
            failed: Some("it was not started, because an earlier service was not ready".to_owned()),
        });
        let received = self.receiver.finish(SETTLE).await;
        self.incomplete.extend(received.incomplete);
        let (duration, epoch) = (self.lifecycle.elapsed(), self.lifecycle.epoch());
        let spans = self.lifecycle.end(received.spans);
        let aside = match (self.onward, &self.action.forward) {
            (Some(onward), Some(forward)) => onward.end(&own(&spans, forward), epoch).await,
            _ => None,
        };
        self.asides.extend(aside);
        Ok(Outcome {
            steps: self.steps,
            services: outcomes,
            spans,
            losses: received.losses,
            outside: self.contacts,
            addresses: self.addresses,
            settled: self.action.settle,
            signals: received.signals,
            asides: self.asides,
            incomplete: self.incomplete,
            doubts: self.doubts,
            attempts: self.attempts,
            isolation: self.isolation,
            duration,
        })
    }
}

/// The steps that are or were processes of a container, by its place and their number.
type Processes = Mutex<BTreeMap<(usize, u32), String>>;

/// The names outside that were looked up in a container.
fn contacts(index: usize, name: &str, service: &Service, steps: &Processes) -> Vec<Contact> {
    let steps = steps.lock().expect("no holder panics");
    let contact = |(id, host): (u32, String)| Contact {
        host,
        port: None,
        service: Some(name.to_owned()),
        step: steps.get(&(index, id)).cloned(),
        count: 1,
    };
    service.link.asked().into_iter().map(contact).collect()
}

/// clnrm's own spans, of which the root bears the scenario's name.
fn own(spans: &[Span], forward: &Forward) -> Vec<Span> {
    let mut own: Vec<Span> =
        spans.iter().filter(|span| span.source == Source::Lifecycle).cloned().collect();
    for root in own.iter_mut().filter(|span| span.parent_id.is_none()) {
        root.name = format!("{}.{}", root.name, forward.scenario);
    }
    own
}

/// Runs one command in a service's container, until it ends or `limit` is over.
async fn execute(
    service: &Service,
    step: &StepPlan,
    env: BTreeMap<String, String>,
    workdir: Option<String>,
    limit: Duration,
    mut lines: Lines,
    began: impl FnOnce(u32),
) -> Result<(Ended, Output, Output), Lost> {
    let (mut stdout, mut stderr) = (Capture::default(), Capture::default());
    let mut process = service.link.spawn(step.argv.clone(), env, workdir).await?;
    began(process.id);
    let alarm = tokio::time::sleep(limit);
    tokio::pin!(alarm);
    let give_up = tokio::time::sleep(limit + KILLED_WITHIN);
    tokio::pin!(give_up);
    let mut timed_out = false;
    let ended = loop {
        tokio::select! {
            progress = process.next() => match progress? {
                Progress::Stdout(bytes) => {
                    lines.push(&bytes);
                    stdout.push(&bytes);
                }
                Progress::Stderr(bytes) => stderr.push(&bytes),
                Progress::Ended(_) if timed_out => break Ended::TimedOut,
                Progress::Ended(ended) => break ended,
            },
            () = &mut alarm, if !timed_out => {
                timed_out = true;
                service.link.kill(process.id).await?;
            }
            // Its end is not told; the container's end will be its own.
            () = &mut give_up => break Ended::TimedOut,
        }
    };
    lines.end();
    Ok((ended, stdout.output(), stderr.output()))
}

fn skipped() -> StepOutcome {
    StepOutcome {
        ended: Ended::Skipped,
        stdout: Output::default(),
        stderr: Output::default(),
        duration: Duration::ZERO,
    }
}

/// A folder on this machine for the sockets of a run, for this user alone; it is removed with this.
pub(crate) struct RunFolder {
    folder: TempDir,
    /// Says that its owner lives; it ends with the process.
    _lock: File,
}

impl RunFolder {
    pub(crate) fn make() -> Result<RunFolder, BackendError> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| drop(sweep()));
        let folder =
            tempfile::Builder::new().prefix(FOLDER_PREFIX).tempdir().map_err(unusable_folder)?;
        let lock = File::create(folder.path().join(LOCK)).map_err(unusable_folder)?;
        lock.lock().map_err(unusable_folder)?;
        Ok(RunFolder { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of processes that were killed; gives them.
pub(crate) fn sweep() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX))
    });
    ours.filter(|entry| is_left(&entry.path()) && std::fs::remove_dir_all(entry.path()).is_ok())
        .map(|entry| entry.path())
        .collect()
}

/// Whether nobody holds a run's folder any more. Another user's cannot be told of, and stays.
fn is_left(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // It is just being made, unless that was long ago.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = std::fs::metadata(folder).and_then(|meta| meta.modified());
            made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > MADE_WITHIN))
        }
        Err(_) => false,
    }
}

/// Makes a container's folder and listens in it for the container's agent.
pub(crate) fn listen(folder: &Path) -> Result<UnixListener, BackendError> {
    std::fs::create_dir_all(folder).map_err(unusable_folder)?;
    let socket = folder.join(agent::HOST_SOCKET);
    let listener = UnixListener::bind(&socket).map_err(unusable_folder)?;
    open_to_all(&socket).map_err(unusable_folder)?;
    Ok(listener)
}

/// Containers run as any user; the folder above keeps others on this machine out.
fn open_to_all(socket: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777))
}

fn unusable_folder(error: std::io::Error) -> BackendError {
    BackendError::Engine {
        engine: "clnrm".to_owned(),
        operation: format!("make its sockets in {}", std::env::temp_dir().display()),
        reason: error.to_string(),
    }
}

fn lost(_: Lost) -> BackendError {
    BackendError::Engine {
        engine: "the container engine".to_owned(),
        operation: "keep the container up".to_owned(),
        reason: "it ended in the middle of the run".to_owned(),
    }
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Code(code) => format!("ended with exit code {code}"),
        Ended::Signal(signal) => format!("ended by signal {signal}"),
        Ended::TimedOut => "reached its limit".to_owned(),
        Ended::NotStarted(reason) => format!("failed to start: {reason}"),
        Ended::Missed(what) => what.clone(),
        Ended::Skipped => "been left out".to_owned(),
    }
}
