//! Services that are named are there, and can be started in some order.

use crate::diagnostic::{At, Problem};
use crate::model::{Scenario, Service, Test};
use crate::plan::DEFAULT_SERVICE;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    let ids = || test.services.iter().map(|service| service.id.as_str());
    for scenario in &test.scenarios {
        for step in &scenario.steps {
            let Some(name) = step.service.as_deref().filter(|name| !ids().any(|id| id == *name))
            else {
                continue;
            };
            let at = At::Key(step.service_path.clone());
            let message = format!(
                "scenario `{}` uses service `{name}`, which is not in [services]",
                scenario.name
            );
            let problem = Problem::error("shape/unknown-service", at, message);
            problems.push(problem.did_you_mean(name, ids()));
        }
        let outside =
            |name: &str| test.services.iter().any(|it| it.id == name && it.outside.is_some());
        for step in &scenario.steps {
            let Some(name) = step.service.as_deref().filter(|name| outside(name)) else { continue };
            let at = At::Key(step.service_path.clone());
            let message = format!("nothing can be run in `{name}`, which is a service outside");
            problems.push(Problem::error("shape/outside-service", at, message));
        }
    }
    let mut unnamed = test
        .scenarios
        .iter()
        .flat_map(|s| &s.steps)
        .filter(|s| s.service.is_none() && s.awaits.is_none());
    if let Some(service) = test.services.iter().find(|service| service.id == DEFAULT_SERVICE)
        && let Some(step) = unnamed.next()
    {
        let message = format!(
            "step `{}` names no service, and `{DEFAULT_SERVICE}` is the name of the container for such",
            step.name
        );
        let problem = Problem::error("shape/reserved-name", At::Key(service.path.clone()), message);
        problems.push(problem.hint("name the service differently, or name it at the step"));
    }
    for service in &test.services {
        let used = |scenario: &&Scenario| scenario.network.or(test.network).unwrap_or_default();
        if let Some((network, path)) = &service.network
            && let Some(scenario) = test.scenarios.iter().find(|it| used(it) != *network)
        {
            let (id, name) = (&service.id, &scenario.name);
            let message = format!("the network of service `{id}` is not that of scenario `{name}`");
            let problem = Problem::error("shape/network", At::Key(path.clone()), message);
            problems.push(problem.hint("say `network` once, of the test or of the scenario"));
        }
        for name in service.depends_on.iter().filter(|name| !ids().any(|id| id == **name)) {
            let at = At::Key(service.path.key("depends_on"));
            let message =
                format!("service `{}` depends on `{name}`, which is not there", service.id);
            let problem = Problem::error("shape/unknown-service", at, message);
            problems.push(problem.did_you_mean(name, ids()));
        }
    }
    if let Err(cycle) = start_order(&test.services) {
        let first = &test.services[cycle[0]];
        let names: Vec<&str> = cycle
            .iter()
            .chain(&cycle[..1])
            .map(|index| test.services[*index].id.as_str())
            .collect();
        let message = format!("services depend on each other in a circle: {}", names.join(" → "));
        let at = At::Key(first.path.key("depends_on"));
        problems.push(Problem::error("shape/dependency-cycle", at, message));
    }
}

/// Indexes of services, each after those it depends on and otherwise in the order of the file.
///
/// # Errors
/// A cycle, as indexes in the order of the dependencies.
pub(crate) fn start_order(services: &[Service]) -> Result<Vec<usize>, Vec<usize>> {
    let mut visit = Visit { services, order: Vec::new(), path: Vec::new() };
    for index in 0..services.len() {
        visit.service(index)?;
    }
    Ok(visit.order)
}

struct Visit<'a> {
    services: &'a [Service],
    order: Vec<usize>,
    path: Vec<usize>,
}

impl Visit<'_> {
    fn service(&mut self, index: usize) -> Result<(), Vec<usize>> {
        if self.order.contains(&index) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|on_path| *on_path == index) {
            return Err(self.path[start..].to_vec());
        }
        self.path.push(index);
        for name in &self.services[index].depends_on {
            let found = self.services.iter().position(|service| service.id == *name);
            found.map_or(Ok(()), |index| self.service(index))?;
        }
        self.path.pop();
        self.order.push(index);
        Ok(())
    }
}
