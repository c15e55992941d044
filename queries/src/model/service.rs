//! `[services.<id>]`

use std::collections::BTreeMap;
use std::time::Duration;

use clnrm_backends::Network;
use serde::{Deserialize, Serialize};

use super::Test;
use super::read::{Table, shell};
use crate::diagnostic::{At, KeyPath, Problem};
use crate::document::Tree;

/// A container that runs beside the steps, or in which they run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Service {
    /// Its name.
    pub id: String,
    /// Where it is written.
    pub path: KeyPath,
    /// Image reference; the default image when `None`.
    pub image: Option<String>,
    /// What it runs; the image's own command when `None`.
    pub argv: Option<Vec<String>>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Ports it listens on inside the test network.
    pub ports: Vec<u16>,
    /// Files and folders it sees.
    pub volumes: Vec<Volume>,
    /// Its working directory.
    pub workdir: Option<String>,
    /// Where it is when it is no container.
    pub outside: Option<Outside>,
    /// Whether its ports are reached from this machine.
    pub publish: bool,
    /// The network it says it is in, and where.
    pub network: Option<(Network, KeyPath)>,
    /// Services that must be ready before it starts.
    pub depends_on: Vec<String>,
    /// When it is ready; `None`: as soon as its ports answer.
    pub waits: Option<Vec<Wait>>,
    /// How long that may take.
    pub wait_limit: Option<Duration>,
}

/// A service that runs outside already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outside {
    /// Its host, as this machine knows it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether what it answers is taken to be always the same.
    pub cache: bool,
}

/// A file or folder inside a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Where it is written.
    pub path: KeyPath,
    /// Relative to the workspace.
    pub host: String,
    /// Absolute, inside.
    pub container: String,
    /// Whether it may not be written.
    pub read_only: bool,
}

/// A condition for being ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// The log matches a regular expression.
    Log(String),
    /// A port accepts a connection.
    Port(u16),
    /// A GET of a path answers with a status.
    Http(u16, String, u16),
    /// A command ends with 0; the pause between two tries, and the limit of one.
    Exec(Vec<String>, Duration, Duration),
    /// A span of this name was exported.
    Span(String),
    /// A pause.
    After(Duration),
}

/// Plugins that are nothing but a container.
const CONTAINERS: [&str; 4] = ["generic_container", "container", "generic", "alpine"];
/// Plugins that are a service outside, and where it is unless the file says.
const OUTSIDE: [(&str, Option<u16>); 4] =
    [("network_service", None), ("ollama", Some(11434)), ("tgi", Some(8080)), ("vllm", Some(8000))];

pub(super) fn read_all(root: &Table<'_>, test: &mut Test) {
    for key in ["services", "service"] {
        let Some(services) = root.table(&[key]) else { continue };
        for (id, value, path) in services.entries() {
            let Some(table) = services.as_table(value, path) else { continue };
            if test.services.iter().any(|service| service.id == id) {
                let at = At::Key(table.path().clone());
                let message = format!("the service `{id}` is already there");
                root.problem(Problem::error("shape/duplicate-service", at, message));
                continue;
            }
            test.services.push(read(id, &table));
        }
    }
}

fn read(id: &str, table: &Table<'_>) -> Service {
    let plugins = [table.string(&["plugin"]), table.string(&["type", "service_type"])];
    let plugin = plugins.into_iter().flatten().find(|name| !CONTAINERS.contains(&name.as_str()));
    let argv = table.argv(&["args", "command"]);
    let mut service = Service {
        id: id.to_owned(),
        path: table.path().clone(),
        image: table.string(&["image"]),
        argv: argv.filter(|argv| !argv.is_empty()),
        env: table.environment(&["env", "environment"]),
        ports: ports(table),
        volumes: volumes(table),
        workdir: table.string(&["working_dir", "workdir"]),
        outside: None,
        network: network(table),
        publish: table.boolean(&["publish"]).unwrap_or(false),
        depends_on: table.strings(&["depends_on"]).unwrap_or_default(),
        waits: None,
        wait_limit: None,
    };
    match plugin.as_deref() {
        None => {}
        Some("otel_collector") => {
            // What listens on the ports of a collector in every container, by another name.
            service.image = None;
            service.argv = Some(Vec::new());
        }
        Some("surrealdb") => surrealdb(table, &mut service),
        Some(name) if OUTSIDE.iter().any(|(outside, _)| *outside == name) => {
            service.outside = outside(table, name);
        }
        // An unknown plugin's own name is its image's.
        Some(name) => drop(service.image.get_or_insert(name.to_owned())),
    }
    waits(table, &mut service);
    limits(table);
    table.skip(&["description", "name"]);
    table.finish();
    service
}

/// What every container may use is said once. Files of 0.6.0 have `resources`, which said nothing.
fn limits(table: &Table<'_>) {
    const HINT: &str = "`[limits]` at the top sets the limits of every container";
    if let Some((_, path)) = table.value(&["limits"]) {
        table.misplaced(path, "a service has no `limits` of its own", HINT);
    }
    if let Some((_, path)) = table.value(&["resources"]) {
        let message = "not supported yet: `resources` is left out";
        table.problem(Problem::warning("left-out", At::Key(path), message).hint(HINT));
    }
}

/// Where a service outside is: `endpoint` or `url`.
fn outside(table: &Table<'_>, plugin: &str) -> Option<Outside> {
    table.skip(&["default_model", "model", "model_id", "timeout"]);
    let cache = table.boolean(&["cache"]).unwrap_or(false);
    let usual = OUTSIDE.iter().find(|(name, _)| *name == plugin).and_then(|(_, port)| *port);
    let said = table.string(&["endpoint", "url"]);
    let Some(said) = said.or_else(|| usual.map(|port| format!("http://localhost:{port}"))) else {
        let at = At::Key(table.path().clone());
        let problem = Problem::error("parse/endpoint", at, "the service outside has no `endpoint`");
        table.problem(problem.hint("write `endpoint = \"http://host:port\"`"));
        return None;
    };
    let (scheme, rest) = said.split_once("://").unwrap_or(("http", &said));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, Some(if scheme == "https" { 443 } else { 80 })),
    };
    let named = !host.is_empty() && host.parse::<std::net::Ipv6Addr>().is_err();
    match port.filter(|_| named) {
        Some(port) => Some(Outside { host: host.to_owned(), port, cache }),
        None => {
            let at = At::Key(table.path().key("endpoint"));
            let message = format!("`{said}` is no place of a service");
            table.problem(Problem::error("parse/endpoint", at, message));
            None
        }
    }
}

/// A database in memory, with what the table says as its arguments.
fn surrealdb(table: &Table<'_>, service: &mut Service) {
    const PORT: u16 = 8000;
    let named = |key, otherwise: &str| table.string(&[key]).unwrap_or(otherwise.to_owned());
    let (user, password) = (named("username", "root"), named("password", "root"));
    let strict = table.boolean(&["strict"]).unwrap_or(false);
    service.image.get_or_insert("surrealdb/surrealdb:latest".to_owned());
    service.env.entry("SURREALDB_PORT".to_owned()).or_insert(PORT.to_string());
    if service.ports.is_empty() {
        service.ports.push(PORT);
    }
    let bind = format!("0.0.0.0:{PORT}");
    let start = ["/surreal", "start", "--user", &user, "--pass", &password, "--bind", &bind];
    let strict = strict.then_some("--strict");
    let argv = start.into_iter().chain(strict).chain(["memory"]).map(str::to_owned);
    service.argv.get_or_insert(argv.collect());
}

/// The network of a test, scenario or service, and where that is written.
pub(super) fn network(table: &Table<'_>) -> Option<(Network, KeyPath)> {
    let (value, path) = table.value(&["network"])?;
    match value {
        Tree::String(name) if name == "isolated" => return Some((Network::Isolated, path)),
        Tree::String(name) if name == "none" => return Some((Network::None, path)),
        Tree::String(name) if name == "open" => return Some((Network::Open, path)),
        Tree::String(name) => {
            let problem =
                Problem::error("parse/network", At::Key(path), format!("`{name}` is no network"));
            table.problem(problem.hint("one of isolated, none, open"));
        }
        other => table.wrong_type(path, "a string", other),
    }
    None
}

/// `8080` or `"8080:80"`, of which the second is the one inside.
fn ports(table: &Table<'_>) -> Vec<u16> {
    let Some((value, path)) = table.value(&["ports"]) else { return Vec::new() };
    let items =
        if let Tree::Array(items) = value { &items[..] } else { std::slice::from_ref(value) };
    let read = |(index, item): (usize, &Tree)| {
        let port = match item {
            Tree::Integer(port) => u16::try_from(*port).ok(),
            Tree::String(text) => text.rsplit(':').next().and_then(|port| port.parse().ok()),
            _ => None,
        };
        if port.is_none_or(|port| port == 0) {
            let at = At::Key(path.index(index));
            let problem = Problem::error("parse/port", at, "this is no port");
            table.problem(problem.hint("write 8080 or \"8080:80\""));
        }
        port
    };
    items.iter().enumerate().filter_map(read).collect()
}

fn volumes(table: &Table<'_>) -> Vec<Volume> {
    let Some((Tree::Array(items), path)) = table.value(&["volumes"]) else {
        if let Some((other, path)) = table.value(&["volumes"]) {
            table.wrong_type(path, "a list of volumes", other);
        }
        return Vec::new();
    };
    let read = |(index, item): (usize, &Tree)| {
        let path = path.index(index);
        let volume = match item {
            Tree::String(text) => short_volume(text, &path),
            Tree::Table(_) => long_volume(&table.as_table(item, path.clone())?),
            _ => None,
        };
        if volume.is_none() {
            let problem = Problem::error("parse/volume", At::Key(path), "this is no volume");
            table.problem(problem.hint("write \"./folder:/inside:ro\""));
        }
        volume
    };
    items.iter().enumerate().filter_map(read).collect()
}

/// `"host:container[:ro]"`
fn short_volume(text: &str, path: &KeyPath) -> Option<Volume> {
    let mut parts = text.split(':');
    let (host, container) = (parts.next()?, parts.next()?);
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return None,
    };
    let whole = parts.next().is_none();
    whole.then(|| volume(path, host, container, read_only))
}

fn long_volume(table: &Table<'_>) -> Option<Volume> {
    let host = table.string(&["host_path", "source"]);
    let container = table.string(&["container_path", "target"]);
    let read_only = table.boolean(&["read_only", "readonly"]).unwrap_or(false);
    table.finish();
    Some(volume(table.path(), &host?, &container?, read_only))
}

fn volume(path: &KeyPath, host: &str, container: &str, read_only: bool) -> Volume {
    let host = host.replace("${PWD}", ".").replace("$PWD", ".");
    let host = match host.trim_start_matches("./").trim_end_matches('/') {
        "" if host.starts_with('/') => "/".to_owned(),
        "" => ".".to_owned(),
        path => path.to_owned(),
    };
    Volume { path: path.clone(), host, container: container.to_owned(), read_only }
}

/// `wait_for`, `health_check` and `healthcheck`: all that are given must hold.
fn waits(table: &Table<'_>, service: &mut Service) {
    let mut waits = Vec::new();
    for wait in table.tables(&["wait_for"]) {
        wait_for(&wait, service, &mut waits);
    }
    for key in ["health_check", "healthcheck"] {
        match table.value(&[key]) {
            Some((Tree::String(text), _)) => {
                waits.push(Wait::Exec(shell(text), INTERVAL, TRY_LIMIT))
            }
            Some((value, path)) => {
                if let Some(check) = table.as_table(value, path) {
                    health_check(&check, service, &mut waits);
                }
            }
            None => {}
        }
    }
    waits.extend(table.string(&["wait_for_span"]).map(Wait::Span));
    let limit = table.duration(&["wait_for_span_timeout_secs"], Duration::from_secs(1));
    service.wait_limit = service.wait_limit.max(limit);
    service.waits = (!waits.is_empty()).then_some(waits);
}

/// The pause between two health checks, unless the file says another.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long one health check may take, unless the file says otherwise.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// A number of at most 16 bits.
fn small(table: &Table<'_>, key: &'static str) -> Option<u16> {
    let number = table.count(&[key])?;
    u16::try_from(number).ok().or_else(|| {
        let at = At::Key(table.path().key(key));
        table.problem(Problem::error("parse/range", at, format!("{number} is no {key}")));
        None
    })
}

fn wait_for(table: &Table<'_>, service: &mut Service, waits: &mut Vec<Wait>) {
    let port = small(table, "port");
    if let Some(pattern) = table.string(&["log"]) {
        waits.push(Wait::Log(pattern));
    }
    let path = table.string(&["http"]);
    let status = small(table, "status");
    match (path, port) {
        (Some(path), Some(port)) => waits.push(Wait::Http(port, path, status.unwrap_or(200))),
        (Some(path), None) => match service.ports.first() {
            Some(port) => waits.push(Wait::Http(*port, path, status.unwrap_or(200))),
            None => {
                let at = At::Key(table.path().clone());
                table.problem(Problem::error("parse/wait", at, "`http` needs a `port`"));
            }
        },
        (None, Some(port)) => waits.push(Wait::Port(port)),
        (None, None) => {}
    }
    if let Some(argv) = table.command(&["exec", "cmd"]) {
        waits.push(Wait::Exec(argv, INTERVAL, TRY_LIMIT));
    }
    if let Some(pause) = table.duration(&["seconds"], Duration::from_secs(1)) {
        waits.push(Wait::After(pause));
    }
    let limit = table.limit();
    service.wait_limit = service.wait_limit.max(limit);
    waits.extend(table.string(&["span"]).map(Wait::Span));
    table.finish();
}

fn health_check(table: &Table<'_>, service: &mut Service, waits: &mut Vec<Wait>) {
    let second = Duration::from_secs(1);
    let interval = table.duration(&["interval"], second).unwrap_or(INTERVAL);
    let single = table.duration(&["timeout"], second).unwrap_or(TRY_LIMIT);
    let retries = table.count(&["retries"]).unwrap_or(3);
    match table.command(&["cmd", "command", "test"]) {
        Some(argv) => waits.push(Wait::Exec(argv, interval, single)),
        None => {
            let at = At::Key(table.path().clone());
            table.problem(Problem::error("parse/wait", at, "the health check has no command"));
        }
    }
    let tries = u32::try_from(retries).unwrap_or(u32::MAX);
    let limit = (interval + single).saturating_mul(tries.saturating_add(1));
    let start = table.duration(&["start_period"], second).unwrap_or_default();
    service.wait_limit = service.wait_limit.max(Some(limit + start));
    table.finish();
}
