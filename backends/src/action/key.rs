//! The run key, and the text that explains it: both are written by one walk over the action, so
//! they cannot disagree.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Action, Awaited, Expected, Host, Image, Limits, Mount, Network, Process, Readiness, Retry,
    ServicePlan, StepPlan,
};

/// The digest of an [`Action`]: two actions have one key exactly when they would do the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey(pub [u8; 32]);

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What two actions do not have in common: a part, and what it was and is, if it was and is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part, like `services[0].workdir`.
    pub part: String,
    /// What it was.
    pub before: Option<String>,
    /// What it is.
    pub now: Option<String>,
}

impl Action {
    /// The run key: blake3 over every part and value, each framed with its length, and each value
    /// with its type.
    ///
    /// Everything is in it but where mounts come from, as what they hold is, and where spans are sent
    /// on to.
    pub fn key(&self) -> ActionKey {
        let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-12 action v5");
        let mut frame = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        self.walk(&mut |part, value| {
            frame(part.as_bytes());
            match value {
                Value::Unset => frame(b"unset"),
                Value::Flag(flag) => frame(&[0, u8::from(flag)]),
                Value::Number(number) => frame(&number.to_le_bytes()),
                Value::Text(text) | Value::Hidden(text) => {
                    frame(b"text");
                    frame(text.as_bytes());
                }
            }
        });
        ActionKey(*hasher.finalize().as_bytes())
    }

    /// Every part of the run key with its value, as people read it; of environment variables, a
    /// digest.
    pub fn parts(&self) -> BTreeMap<String, String> {
        let mut parts = BTreeMap::new();
        self.walk(&mut |part, value| {
            let value = match value {
                Value::Unset => "unset".to_owned(),
                Value::Flag(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Text(text) => format!("{text:?}"),
                Value::Hidden(text) => {
                    let digest = blake3::derive_key("clnrm 2026-11 hidden value", text.as_bytes());
                    let short = u64::from_le_bytes(*digest.first_chunk().expect("it has 32 bytes"));
                    format!("digest {short:016x}")
                }
            };
            parts.insert(part.to_owned(), value);
        });
        parts
    }

    fn walk(&self, write: &mut dyn FnMut(&str, Value<'_>)) {
        let Action {
            backend,
            network,
            allowed,
            lasting,
            spans_on_stdout,
            forward: _,
            group,
            retries,
            seed,
            clock,
            time_limit,
            settle: _,
            limits,
            services,
            concurrent,
            steps,
        } = self;
        let mut walk = Walk { part: String::new(), write };
        walk.text("platform", std::env::consts::ARCH);
        walk.text("backend", backend.name());
        walk.text(
            "network",
            match network {
                Network::Isolated => "isolated",
                Network::None => "none",
                Network::Open => "open",
            },
        );
        walk.list("allowed", allowed, |walk, Host { name, port, outside, service }| {
            walk.text("name", name);
            walk.number("port", *port);
            walk.text("outside", outside);
            walk.option("service", service.as_deref());
        });
        walk.value("lasting", Value::Flag(*lasting));
        walk.value("spans_on_stdout", Value::Flag(*spans_on_stdout));
        walk.option("group", group.as_deref());
        walk.number("retries", *retries);
        walk.number("seed", *seed);
        walk.value("clock", clock.map_or(Value::Unset, |clock| Value::Number(clock.into())));
        walk.duration("time_limit", *time_limit);
        let Limits { cpu_millicores, memory_mb, pids } = limits;
        let limit = |limit: Option<i128>| limit.map_or(Value::Unset, Value::Number);
        walk.value("limits.cpu_millicores", limit(cpu_millicores.map(Into::into)));
        walk.value("limits.memory_mb", limit(memory_mb.map(Into::into)));
        walk.value("limits.pids", limit(pids.map(Into::into)));
        walk.list("services", services, Walk::service);
        walk.value("concurrent", Value::Flag(*concurrent));
        walk.list("steps", steps, Walk::step);
    }
}

/// What differs between the [`parts`](Action::parts) of two actions, in their order.
pub fn differences(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut parts: Vec<&String> = before.keys().chain(now.keys()).collect();
    parts.sort();
    parts.dedup();
    let both = parts.into_iter().map(|part| Difference {
        part: part.clone(),
        before: before.get(part).cloned(),
        now: now.get(part).cloned(),
    });
    both.filter(|difference| difference.before != difference.now).collect()
}

/// A value at the end of a walk.
enum Value<'a> {
    Unset,
    Flag(bool),
    Number(i128),
    Text(&'a str),
    /// Text that is not shown.
    Hidden(&'a str),
}

/// A walk over an action that tells of every part once, in one order.
///
/// Structures are taken apart without `..`: a new field does not compile until it is told of.
struct Walk<'a> {
    part: String,
    write: &'a mut dyn FnMut(&str, Value<'_>),
}

impl Walk<'_> {
    fn service(&mut self, service: &ServicePlan) {
        let ServicePlan {
            name,
            image,
            process,
            env,
            mounts,
            workdir,
            ports,
            publish,
            ready,
            ready_limit,
        } = service;
        self.text("name", name);
        match image {
            Image::Host(digest) => self.text("image.host", digest),
            Image::Id(id) => self.text("image.id", id),
        }
        match process {
            Process::Idle => self.text("process", "idle"),
            Process::OfImage => self.text("process", "of the image"),
            Process::Argv(argv) => self.texts("process.argv", argv),
        }
        self.env(env);
        self.list("mounts", mounts, Walk::mount);
        self.option("workdir", workdir.as_deref());
        self.list("ports", ports, |walk, port| walk.number("", *port));
        self.value("publish", Value::Flag(*publish));
        self.list("ready", ready, Walk::readiness);
        self.duration("ready_limit", *ready_limit);
    }

    fn mount(&mut self, mount: &Mount) {
        let Mount { source: _, digest, target, read_only } = mount;
        self.text("digest", digest);
        self.text("target", target);
        self.value("read_only", Value::Flag(*read_only));
    }

    fn readiness(&mut self, readiness: &Readiness) {
        match readiness {
            Readiness::Port(port) => self.number("port", *port),
            Readiness::Http { port, path, status } => {
                self.number("http.port", *port);
                self.text("http.path", path);
                self.number("http.status", *status);
            }
            Readiness::Log(pattern) => self.text("log", pattern),
            Readiness::Span(name) => self.text("span", name),
            Readiness::Exec { argv, interval, limit } => {
                self.texts("exec.argv", argv);
                self.duration("exec.interval", *interval);
                self.duration("exec.limit", *limit);
            }
            Readiness::After(pause) => self.duration("after", *pause),
        }
    }

    fn step(&mut self, step: &StepPlan) {
        let StepPlan {
            name,
            service,
            argv,
            awaits,
            env,
            workdir,
            time_limit,
            goes_on_after,
            retry,
        } = step;
        self.text("name", name);
        self.number("service", *service as u64);
        self.texts("argv", argv);
        self.number("awaits", u64::from(awaits.is_some()));
        if let Some(Awaited { span, count }) = awaits {
            self.text("awaits.span", span);
            self.number("awaits.count", *count);
        }
        self.env(env);
        self.option("workdir", workdir.as_deref());
        self.duration("time_limit", *time_limit);
        self.expected("goes_on_after", *goes_on_after);
        self.number("retry", u64::from(retry.is_some()));
        if let Some(Retry { attempts, delay, until }) = retry {
            self.number("retry.attempts", *attempts);
            self.duration("retry.delay", *delay);
            self.expected("retry.until", *until);
        }
    }

    fn expected(&mut self, field: &str, expected: Expected) {
        match expected {
            Expected::Code(code) => self.number(&format!("{field}.code"), code),
            Expected::Failure => self.text(field, "failure"),
            Expected::Anything => self.text(field, "anything"),
        }
    }

    fn env(&mut self, env: &BTreeMap<String, String>) {
        self.number("env", env.len() as u64);
        for (name, value) in env {
            self.value(&format!("env[{name:?}]"), Value::Hidden(value));
        }
    }

    fn texts(&mut self, name: &str, texts: &[String]) {
        self.list(name, texts, |walk, text| walk.value("", Value::Text(text)));
    }

    fn list<T>(&mut self, name: &str, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.number(name, items.len() as u64);
        for (at, item) in items.iter().enumerate() {
            self.below(&format!("{name}[{at}]"), |walk| each(walk, item));
        }
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        self.value(name, value.map_or(Value::Unset, Value::Text));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.value(name, Value::Text(text));
    }

    fn number(&mut self, name: &str, number: impl Into<i128>) {
        self.value(name, Value::Number(number.into()));
    }

    fn duration(&mut self, name: &str, duration: Duration) {
        self.number(name, duration.as_nanos() as i128);
    }

    fn value(&mut self, name: &str, value: Value<'_>) {
        self.below(name, |walk| (walk.write)(&walk.part, value));
    }

    fn below(&mut self, name: &str, then: impl FnOnce(&mut Self)) {
        let length = self.part.len();
        if !self.part.is_empty() && !name.is_empty() {
            self.part.push('.');
        }
        self.part.push_str(name);
        then(self);
        self.part.truncate(length);
    }
}

#[cfg(test)]
mod tests;
