//! A service of a run: its process, its log, and whether it is ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regex::bytes::Regex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::describe;
use super::lines::Lines;
use crate::action::{Process as Plan, Readiness, ServicePlan};
use crate::link::{Link, Lost, Process, Progress};
use crate::otlp::Inbox;
use crate::outcome::{Ended, ServiceOutcome};
use crate::output::Capture;

/// The pause between two tries of a port; doubles up to the second one.
const TRIES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// How long the end of a process that was stopped may take to be told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A container that is up, with its process, if it has one.
pub(super) struct Service {
    pub(super) link: Arc<Link>,
    pub(super) failed: Option<String>,
    env: BTreeMap<String, String>,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<()>,
}

#[derive(Default)]
struct State {
    log: Capture,
    ended: Option<Ended>,
    idle: bool,
}

impl Service {
    /// Starts the service's process, unless the container only idles.
    pub(super) async fn start(
        plan: &ServicePlan,
        link: Arc<Link>,
        command: Vec<String>,
        mut env: BTreeMap<String, String>,
        lines: Lines,
    ) -> Result<Service, Lost> {
        env.extend(plan.env.clone());
        let argv = match &plan.process {
            Plan::Idle => Vec::new(),
            Plan::Argv(argv) => argv.clone(),
            Plan::OfImage if is_bare_shell(&command) => Vec::new(),
            Plan::OfImage => command,
        };
        let state = Arc::<Mutex<State>>::default();
        let (tell, changed) = watch::channel(());
        if argv.is_empty() {
            // Idle: there is nothing whose end could be waited for.
            state.lock().expect("no holder panics").idle = true;
        } else {
            let process = link.spawn(argv, env.clone(), plan.workdir.clone()).await?;
            tokio::spawn(follow(process, state.clone(), tell, lines));
        }
        Ok(Service { link, failed: None, env, state, changed })
    }

    fn is_idle(&self) -> bool {
        self.state.lock().expect("no holder panics").idle
    }

    /// How its process ended, if it did.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.state.lock().expect("no holder panics").ended.clone()
    }

    /// What came of it, once its agent has ended it; `before` is how it had ended before that.
    pub(super) async fn outcome(self, before: Option<Ended>) -> ServiceOutcome {
        // Its last words may still be on their way.
        if !self.is_idle() {
            let _ = timeout(LAST_WORDS, self.until_ended()).await;
        }
        let log = self.state.lock().expect("no holder panics").log.output();
        ServiceOutcome { log, ended: before, failed: self.failed }
    }

    /// Waits until all its conditions hold; says why if they do not within `limit`.
    pub(super) async fn ready(
        &self,
        plan: &ServicePlan,
        limit: Duration,
        inbox: &Inbox,
    ) -> Result<Result<(), String>, Lost> {
        let began = Instant::now();
        let idle = plan.process == Plan::OfImage && self.is_idle();
        // Nothing listens in a container whose image has nothing to run.
        let skipped = |condition: &&Readiness| idle && matches!(condition, Readiness::Port(_));
        for condition in plan.ready.iter().filter(|condition| !skipped(condition)) {
            let name = &plan.name;
            tokio::select! {
                biased;
                held = timeout_at(began + limit, self.holds(condition, began, inbox, &plan.name)) => match held {
                    Ok(Ok(())) => {}
                    Ok(Err(Lost)) => return Err(Lost),
                    Err(_) => return Ok(Err(format!(
                        "service `{name}` was not ready within {limit:?}: {}",
                        condition.unmet()
                    ))),
                },
                ended = self.until_ended() => return Ok(Err(format!(
                    "service `{name}` {} before it was ready ({})",
                    describe(&ended), condition.unmet()
                ))),
            }
        }
        Ok(Ok(()))
    }

    async fn holds(
        &self,
        condition: &Readiness,
        began: Instant,
        inbox: &Inbox,
        service: &str,
    ) -> Result<(), Lost> {
        match condition {
            Readiness::Port(port) => self.until_answered(*port, "", 1).await,
            Readiness::Http { port, path, status } => {
                self.until_answered(*port, path, *status).await
            }
            Readiness::Log(pattern) => {
                self.until_logged(pattern).await;
                Ok(())
            }
            Readiness::Span(name) => {
                // Its own start is told once it is ready, and it was started.
                let own = [format!("{service}.start"), "container.start".to_owned()];
                if !own.contains(name) {
                    inbox.heard_of(name).await;
                }
                Ok(())
            }
            Readiness::Exec { argv, interval, limit } => {
                self.until_succeeded(argv, *interval, *limit).await
            }
            Readiness::After(pause) => {
                tokio::time::sleep_until(began + *pause).await;
                Ok(())
            }
        }
    }

    async fn until_answered(&self, port: u16, path: &str, status: u16) -> Result<(), Lost> {
        let [mut pause, longest] = TRIES;
        while self.link.connect(port, path).await? != Some(status) {
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }

    async fn until_succeeded(
        &self,
        argv: &[String],
        interval: Duration,
        limit: Duration,
    ) -> Result<(), Lost> {
        loop {
            let mut process = self.link.spawn(argv.to_vec(), self.env.clone(), None).await?;
            match timeout(limit, until_end_of(&mut process)).await {
                Ok(ended) => {
                    if ended? == Ended::Code(0) {
                        return Ok(());
                    }
                }
                Err(_) => self.link.kill(process.id).await?,
            }
            sleep(interval).await;
        }
    }

    async fn until_logged(&self, pattern: &str) {
        let regex = Regex::new(pattern).expect("the shape check has compiled it");
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            let log = self.state.lock().expect("no holder panics").log.output();
            if regex.is_match(&log.head) || regex.is_match(&log.tail) {
                return;
            }
            if changed.changed().await.is_err() {
                // Nothing more is coming; whether it ended is somebody else's question.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when the process has ended; never for a container that idles.
    async fn until_ended(&self) -> Ended {
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if let Some(ended) = self.ended() {
                return ended;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Readiness {
    /// What it waits for, for a message.
    fn unmet(&self) -> String {
        match self {
            Readiness::Port(port) => format!("port {port} does not accept a connection"),
            Readiness::Http { port, path, status } => {
                format!("http://localhost:{port}{path} does not answer with {status}")
            }
            Readiness::Log(pattern) => format!("its log does not match `{pattern}`"),
            Readiness::Span(name) => format!("no span `{name}` was exported"),
            Readiness::Exec { argv, .. } => format!("`{}` does not end with 0", argv.join(" ")),
            Readiness::After(pause) => format!("it waits for {pause:?}"),
        }
    }
}

async fn until_end_of(process: &mut Process) -> Result<Ended, Lost> {
    loop {
        if let Progress::Ended(ended) = process.next().await? {
            return Ok(ended);
        }
    }
}

/// Keeps a process' output and end, until both are over.
async fn follow(
    mut process: Process,
    state: Arc<Mutex<State>>,
    tell: watch::Sender<()>,
    mut lines: Lines,
) {
    while let Ok(progress) = process.next().await {
        match &progress {
            Progress::Stdout(bytes) => lines.push(bytes),
            Progress::Stderr(_) => {}
            Progress::Ended(_) => lines.end(),
        }
        let mut state = state.lock().expect("no holder panics");
        match progress {
            Progress::Stdout(bytes) | Progress::Stderr(bytes) => state.log.push(&bytes),
            Progress::Ended(ended) => state.ended = Some(ended),
        }
        drop(state);
        tell.send_replace(());
    }
}

/// Whether an image's command is nothing but a shell, which would end at once without input.
fn is_bare_shell(command: &[String]) -> bool {
    let [program] = command else { return command.is_empty() };
    let name = program.rsplit('/').next().unwrap_or(program);
    matches!(name, "sh" | "bash" | "ash" | "dash" | "zsh")
}
