//! A service of a run: its process, its log, and whether it is ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::describe;
use super::lines::Lines;
use super::log_pattern::LogPattern;
use crate::action::{Process as Plan, Readiness, ServicePlan};
use crate::link::{Link, Lost, Process, Progress};
use crate::otlp::Inbox;
use crate::outcome::{Ended, ServiceOutcome};
use crate::output::Capture;

/// The pause between two tries of a port; doubles up to the second one.
const TRIES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// How often a health check may fail to start.
const MOST_NOT_STARTED: u32 = 3;

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
    /// What its port last answered, if anything.
    answered: Option<u16>,
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
                    Ok(Ok(Ok(()))) => {}
                    Ok(Ok(Err(reason))) => {
                        return Ok(Err(format!("service `{name}` cannot get ready: {reason}")));
                    }
                    Ok(Err(Lost)) => return Err(Lost),
                    Err(_) => return Ok(Err(format!(
                        "service `{name}` was not ready within {limit:?}: {}",
                        self.seen_of(condition).await?
                    ))),
                },
                // What it wrote before its end counts, also where both came at once.
                ended = self.until_ended() => if !self.has_logged(condition) {
                    return Ok(Err(format!(
                        "service `{name}` {} before it was ready ({})",
                        describe(&ended), self.seen_of(condition).await?
                    )));
                },
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
    ) -> Result<Result<(), String>, Lost> {
        match condition {
            Readiness::Port(port) => self.until_answered(*port, "", 1).await?,
            Readiness::Http { port, path, status } => {
                self.until_answered(*port, path, *status).await?;
            }
            Readiness::Log(pattern) => self.until_logged(pattern).await,
            Readiness::Span(name) => {
                // Its own start is told once it is ready, and it was started.
                let own = [format!("{service}.start"), "container.start".to_owned()];
                if !own.contains(name) {
                    inbox.heard_of(name, 1).await;
                }
            }
            Readiness::Exec { argv, interval, limit } => {
                return self.until_succeeded(argv, *interval, *limit).await;
            }
            // The test file asks for this pause: `wait_for = { seconds = … }`.
            Readiness::After(pause) => tokio::time::sleep_until(began + *pause).await,
        }
        Ok(Ok(()))
    }

    async fn until_answered(&self, port: u16, path: &str, status: u16) -> Result<(), Lost> {
        let [mut pause, longest] = TRIES;
        loop {
            let answered = self.link.connect(port, path, status).await?;
            self.state.lock().expect("no holder panics").answered = answered;
            if answered == Some(status) {
                return Ok(());
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn until_succeeded(
        &self,
        argv: &[String],
        interval: Duration,
        limit: Duration,
    ) -> Result<Result<(), String>, Lost> {
        let mut not_started = 0;
        loop {
            let mut process = self.link.spawn(argv.to_vec(), self.env.clone(), None).await?;
            match timeout(limit, until_end_of(&mut process)).await {
                Ok(ended) => match ended? {
                    Ended::Code(0) => return Ok(Ok(())),
                    // The service itself may put it there, but not that late.
                    Ended::NotStarted(reason) => {
                        not_started += 1;
                        if not_started == MOST_NOT_STARTED {
                            return Ok(Err(format!("its health check {reason}")));
                        }
                    }
                    _ => {}
                },
                Err(_) => self.link.kill(process.id).await?,
            }
            sleep(interval).await;
        }
    }

    async fn until_logged(&self, pattern: &str) {
        let pattern = LogPattern::new(pattern);
        let mut changed = self.changed.clone();
        loop {
            changed.borrow_and_update();
            if self.matches(&pattern) {
                return;
            }
            if changed.changed().await.is_err() {
                // Nothing more is coming; whether it ended is somebody else's question.
                std::future::pending::<()>().await;
            }
        }
    }

    fn matches(&self, pattern: &LogPattern) -> bool {
        let state = self.state.lock().expect("no holder panics");
        let (log, is_over) = (state.log.output(), state.ended.is_some());
        drop(state);
        pattern.is_in(&log.head, is_over || log.dropped > 0) || pattern.is_in(&log.tail, is_over)
    }

    /// Whether this is a pattern, and all that has been written matches it.
    fn has_logged(&self, condition: &Readiness) -> bool {
        match condition {
            Readiness::Log(pattern) => self.matches(&LogPattern::new(pattern)),
            _ => false,
        }
    }

    /// What a condition waits for, and what was seen instead.
    async fn seen_of(&self, condition: &Readiness) -> Result<String, Lost> {
        let unmet = condition.unmet();
        let answered = self.state.lock().expect("no holder panics").answered;
        let seen = match condition {
            Readiness::Http { .. } if answered.is_some() => {
                format!("it answered {}", answered.unwrap_or_default())
            }
            Readiness::Port(_) | Readiness::Http { .. } => {
                let ports = self.link.listening().await?;
                if let Readiness::Http { port, .. } = condition
                    && ports.contains(port)
                {
                    return Ok(format!("{unmet}: it accepts connections and does not answer"));
                }
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                match ports.is_empty() {
                    true => "nothing listens on any port".to_owned(),
                    false => format!("refused; something listens on {}", ports.join(", ")),
                }
            }
            _ => return Ok(unmet),
        };
        Ok(format!("{unmet}: {seen}"))
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
