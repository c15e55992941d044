//! Plans a scenario: everything a run depends on, made explicit.

mod settle;

use std::collections::BTreeMap;
use std::time::Duration;

use clnrm_backends::{
    Action, BackendError, BackendKind, Expected, Forward, Host, Image, Mount, Network, Process,
    Readiness, Retry, ServicePlan, StepPlan,
};
use clnrm_engine::{Cx, Query, Unit};

use crate::diagnostic::{At, Problem};
use crate::model::{Exit, MODEL, Scenario, Service, Step, Test, Volume, Wait};
use crate::render::{cell_of, number_of};
use crate::settings::{SETTINGS, Settings};
use crate::shape;

/// The run a scenario asks for; the unit's part is the scenario's index.
pub static PLAN: Query<Plan> = Query::new("plan", 5, plan);

/// See [`PLAN`].
pub type Plan = Result<Action, Vec<Problem>>;

/// The service in which steps run that name none.
pub(crate) const DEFAULT_SERVICE: &str = "default";
/// Limits, unless file or settings say others.
const STEP_LIMIT: Duration = Duration::from_secs(60);
const RUN_LIMIT: Duration = Duration::from_secs(300);
const READY_LIMIT: Duration = Duration::from_secs(30);

/// The kinds of facts queries ask for.
pub mod facts {
    /// Where the workspace lies in its repository, as a path from the repository's root; absent
    /// without one.
    pub const REPOSITORY: &str = "repository";
    /// A template of the user's own folder, by its name; the value is its content.
    pub const HOME_TEMPLATE: &str = "home-template";
    /// A variable given on the command line; the value is its text.
    pub const DEFINED: &str = "defined";
    /// The names of all these, a line each.
    pub const DEFINED_NAMES: &str = "defined-names";
    /// When the program began, in RFC 3339.
    pub const NOW: &str = "now";
    /// The backend in use; the value is an encoded `BackendKind`.
    pub const BACKEND: &str = "backend";
    /// An image by its reference; the value is an encoded `Result<Option<Image>, BackendError>`.
    pub const IMAGE: &str = "image";
}

fn plan(cx: &Cx<'_>, unit: &Unit) -> Plan {
    let model = cx.get(&MODEL, &cell_of(unit));
    let test = model.as_ref().as_ref().map_err(|problem| vec![problem.clone()])?;
    let scenario = scenario(test, unit).expect("plans are asked for by scenarios that are there");
    let settings = cx.get(&SETTINGS, &crate::settings::unit());
    let mut planner = Planner { cx, settings: &settings, problems: Vec::new() };
    let action = planner.action(test, scenario);
    if planner.problems.is_empty() { Ok(action) } else { Err(planner.problems) }
}

/// The scenario a unit's part names.
pub(crate) fn scenario<'a>(test: &'a Test, unit: &Unit) -> Option<&'a Scenario> {
    test.scenarios.get(number_of(unit)?)
}

struct Planner<'a> {
    cx: &'a Cx<'a>,
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl Planner<'_> {
    fn action(&mut self, test: &Test, scenario: &Scenario) -> Action {
        let order = shape::start_order(&test.services).unwrap_or_default();
        let mut services: Vec<ServicePlan> = order
            .iter()
            .map(|index| &test.services[*index])
            .filter(|service| service.outside.is_none())
            .map(|service| self.service(service))
            .collect();
        if needs_default_service(scenario) {
            services.push(self.default_service(scenario));
        }
        for service in &mut services {
            for (name, value) in &test.otel {
                service.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let place = |name: &str| services.iter().position(|service| service.name == name);
        let last = scenario.steps.len().saturating_sub(1);
        let steps = scenario.steps.iter().enumerate().map(|(index, step)| StepPlan {
            name: step.name.clone(),
            service: place(step.service.as_deref().unwrap_or(DEFAULT_SERVICE)).unwrap_or(0),
            argv: step.argv.clone(),
            awaits: step.awaits.clone(),
            env: step.env.clone(),
            workdir: step.workdir.clone(),
            time_limit: step.time_limit.or(self.settings.timeout).unwrap_or(STEP_LIMIT),
            goes_on_after: goes_on_after(step, index == last || scenario.concurrent),
            retry: (step.attempts > 1).then(|| Retry {
                attempts: step.attempts,
                delay: step.retry_delay,
                until: expected(step),
            }),
        });
        let steps: Vec<StepPlan> = steps.collect();
        let limits = [scenario.time_limit, test.time_limit];
        let longest = |step: &StepPlan| {
            let again = step.retry.as_ref().map(|retry| (retry.attempts, retry.delay));
            let (attempts, delay) = again.unwrap_or((1, Duration::ZERO));
            (step.time_limit + delay).saturating_mul(attempts)
        };
        let needed = steps.iter().map(longest).fold(READY_LIMIT, Duration::saturating_add);
        let wanted = scenario.settle.or(test.settle).or(self.settings.settle);
        let settle = settle::settle(test, scenario, wanted, &services, &steps);
        let network = scenario.network.or(test.network).unwrap_or_default();
        let hosts = [&test.allowed[..], &scenario.allowed].concat();
        let outside = || test.services.iter().filter_map(|it| Some((it, it.outside.as_ref()?)));
        let fixed = outside().all(|(_, outside)| outside.cache);
        let mut allowed = hosts.clone();
        allowed.extend(outside().flat_map(|(service, outside)| {
            // By the name of the service, and by the one that programs have been told.
            [&service.id, &outside.host].map(|name| Host {
                name: name.clone(),
                port: outside.port,
                outside: outside.host.clone(),
                service: Some(service.id.clone()),
            })
        }));
        allowed.sort();
        allowed.dedup();
        Action {
            backend: self.backend(),
            network,
            lasting: network != Network::Open && hosts.is_empty() && fixed && test.clock.is_some(),
            allowed,
            spans_on_stdout: test.spans_on_stdout,
            forward: test.forward.clone().map(|forward| {
                let scenario = scenario.name.clone();
                Forward { scenario, ..forward }
            }),
            retries: scenario.retries,
            group: test.group.clone(),
            seed: test.seed,
            clock: test.clock,
            time_limit: limits.into_iter().flatten().min().unwrap_or(RUN_LIMIT.max(needed)),
            settle,
            limits: test.limits.clone(),
            concurrent: scenario.concurrent,
            services,
            steps,
        }
    }

    fn backend(&self) -> BackendKind {
        let fact = self.cx.fact(facts::BACKEND, "").unwrap_or_default();
        serde_json::from_slice(&fact).unwrap_or(BackendKind::Sandbox)
    }

    fn service(&mut self, service: &Service) -> ServicePlan {
        let reference = service.image.as_deref().unwrap_or(&self.settings.default_image);
        let at = At::Key(if service.image.is_some() {
            service.path.key("image")
        } else {
            service.path.clone()
        });
        let image = self.image(reference, at);
        let process = match &service.argv {
            Some(argv) if argv.is_empty() => Process::Idle,
            Some(argv) => Process::Argv(argv.clone()),
            None => Process::OfImage,
        };
        let ports = || service.ports.iter().map(|port| Readiness::Port(*port)).collect();
        ServicePlan {
            name: service.id.clone(),
            image,
            process,
            env: service.env.clone(),
            mounts: service.volumes.iter().map(|volume| self.mount(volume)).collect(),
            workdir: service.workdir.clone(),
            ports: service.ports.clone(),
            publish: service.publish,
            ready: match &service.waits {
                Some(waits) => waits.iter().map(readiness).collect(),
                None => ports(),
            },
            ready_limit: service.wait_limit.unwrap_or(READY_LIMIT + pauses(service)),
        }
    }

    fn default_service(&mut self, scenario: &Scenario) -> ServicePlan {
        let image = self.image(&self.settings.default_image, At::Key(scenario.path.clone()));
        ServicePlan {
            name: DEFAULT_SERVICE.to_owned(),
            image,
            process: Process::Idle,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            workdir: None,
            ports: Vec::new(),
            publish: false,
            ready: Vec::new(),
            ready_limit: READY_LIMIT,
        }
    }

    /// What a reference means on the backend in use; never something else in its place.
    fn image(&mut self, reference: &str, at: At) -> Image {
        let fact = self.cx.fact(facts::IMAGE, reference).unwrap_or_default();
        let answer: Result<Option<Image>, BackendError> =
            serde_json::from_slice(&fact).unwrap_or(Ok(None));
        let backend = self.backend().name();
        let problem = match answer {
            Ok(Some(image)) => return image,
            Ok(None) => match reference.strip_prefix("oci:") {
                Some(path) => missing_image(path, at),
                None => {
                    let message =
                        format!("the {backend} backend does not have the image `{reference}`");
                    Problem::error("image/unavailable", at, message).hint(match backend {
                        "sandbox" => "it takes images from a Podman or Docker of this machine, a registry, or a file: `oci:image.tar`",
                        _ => "pull or build it, or use the image `host`",
                    })
                }
            },
            Err(error) => {
                let message = format!("the image `{reference}` cannot be looked up: {error}");
                Problem::error("backend/failed", at, message)
            }
        };
        self.problems.push(problem);
        Image::Id(String::new())
    }

    fn mount(&mut self, volume: &Volume) -> Mount {
        let at = || At::Key(volume.path.clone());
        let problem = |code, message| Problem::error(code, at(), message);
        let digest = match self.cx.tree(&volume.host) {
            Ok(Some(digest)) => digest.to_string(),
            Ok(None) => {
                self.problems.push(missing_volume(volume));
                String::new()
            }
            Err(reason) => {
                let message = format!("`{}` is mounted, but cannot be read: {reason}", volume.host);
                self.problems.push(problem("plan/unreadable-volume", message));
                String::new()
            }
        };
        Mount {
            source: volume.host.clone(),
            digest,
            target: volume.container.clone(),
            read_only: volume.read_only,
        }
    }
}

/// Whether a step of a scenario runs in a container of the default image.
pub(crate) fn needs_default_service(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| step.service.is_none() && step.awaits.is_none())
}

/// An image in a file that is not there.
pub(crate) fn missing_image(path: &str, at: At) -> Problem {
    let message = format!("there is no image at `{path}`");
    let problem = Problem::error("image/unavailable", at, message);
    problem.hint("the path of an archive or folder, from the workspace on")
}

/// What is mounted and is not there.
pub(crate) fn missing_volume(volume: &Volume) -> Problem {
    let message = format!("`{}` is mounted, but is not there", volume.host);
    let problem = Problem::error("plan/missing-volume", At::Key(volume.path.clone()), message);
    problem.hint("paths are relative to the workspace")
}

/// The last step's end changes nothing about the run, so what is expected of it is no part of it.
fn goes_on_after(step: &Step, last: bool) -> Expected {
    if last || step.continue_on_failure { Expected::Anything } else { expected(step) }
}

fn expected(step: &Step) -> Expected {
    match step.exit {
        Exit::Code(code) => Expected::Code(code),
        Exit::Failure => Expected::Failure,
    }
}

/// How long a service's own conditions have it wait.
fn pauses(service: &Service) -> Duration {
    let pause = |wait: &Wait| if let Wait::After(pause) = wait { *pause } else { Duration::ZERO };
    service.waits.iter().flatten().map(pause).sum()
}

fn readiness(wait: &Wait) -> Readiness {
    match wait.clone() {
        Wait::Log(pattern) => Readiness::Log(pattern),
        Wait::Span(name) => Readiness::Span(name),
        Wait::Port(port) => Readiness::Port(port),
        Wait::Http(port, path, status) => Readiness::Http { port, path, status },
        Wait::Exec(argv, interval, limit) => Readiness::Exec { argv, interval, limit },
        Wait::After(pause) => Readiness::After(pause),
    }
}
