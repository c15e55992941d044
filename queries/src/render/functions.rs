//! The functions templates can call.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tera::{Error, Map, Result, Tera, Value};

use super::generators::{self, Random};
use super::guard::{EMIT, IS_SET, LONGEST_RANGE, TICK, WEIGH, Work};
use crate::dialect::{JSON, LIST, MAP, NONE, PAIRS};

/// What functions share with the rendering that calls them.
#[derive(Clone)]
pub(super) struct Session(Arc<Mutex<State>>);

struct State {
    /// The environment as far as it has been read.
    known: BTreeMap<String, Option<String>>,
    /// The variable that ended the rendering, because it was not known yet.
    wanted: Option<String>,
    clock: String,
    seed: u64,
    /// How often each generator was called.
    calls: HashMap<&'static str, u64>,
    work: Work,
}

impl Session {
    fn new() -> Session {
        Session(Arc::new(Mutex::new(State {
            known: BTreeMap::new(),
            wanted: None,
            clock: String::new(),
            seed: 0,
            calls: HashMap::new(),
            work: Work::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// Begins with a template of this clock and seed.
    pub(super) fn begin(&self, clock: &str, seed: u64) {
        let mut state = self.state();
        state.known.clear();
        clock.clone_into(&mut state.clock);
        state.seed = seed;
        drop(state);
        self.restart();
    }

    /// Begins the same template anew.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.wanted = None;
        state.calls.clear();
        state.work = Work::new();
    }

    /// The variable that ended the rendering, if one did.
    pub(super) fn take_wanted(&self) -> Option<String> {
        self.state().wanted.take()
    }

    /// Says what a variable is.
    pub(super) fn insert(&self, name: String, value: Option<String>) {
        self.state().known.insert(name, value);
    }

    /// Why the rendering was stopped, if it was.
    pub(super) fn exhausted(&self) -> Option<String> {
        self.state().work.exhausted.clone()
    }

    /// A variable, or an error that ends the rendering when it is not known yet.
    fn env(&self, name: &str) -> Result<Option<String>> {
        let mut state = self.state();
        if let Some(value) = state.known.get(name) {
            return Ok(value.clone());
        }
        state.wanted = Some(name.to_owned());
        Err(Error::msg(format!("the variable {name} is not known yet")))
    }

    /// Chance for the next call of a generator, the same in every rendering: it depends on the
    /// test's seed, or the one that is given, and on how often this generator was called.
    fn random(&self, generator: &'static str, arguments: &Arguments) -> Result<Random> {
        let seed = match arguments.get("seed") {
            Some(seed) => {
                seed.as_i64().ok_or_else(|| Error::msg("`seed` must be an integer"))? as u64
            }
            None => self.state().seed,
        };
        let mut state = self.state();
        let call = state.calls.entry(generator).or_default();
        *call += 1;
        Ok(generators::random(seed, generator, *call))
    }
}

type Arguments = HashMap<String, Value>;

/// What [`Work`] says of what is to be done.
type Outcome = std::result::Result<(), String>;

/// The parameters of functions, in the order in which they may be given without names.
const PARAMETERS: [(&str, &[&str]); 17] = [
    ("env", &["name", "default"]),
    ("get_env", &["name", "default"]),
    ("get_random", &["start", "end"]),
    ("now", &["timestamp", "utc"]),
    ("now_rfc3339", &[]),
    ("now_unix", &[]),
    ("pick", &["from", "seed"]),
    ("range", &["end", "start", "step_by"]),
    ("seq", &["end", "start", "step"]),
    ("sha256", &["s"]),
    ("span_id", &["seed"]),
    ("throw", &["message"]),
    ("toml_encode", &["value"]),
    ("trace_id", &["seed"]),
    ("traceparent", &["trace_id", "span_id", "sampled"]),
    ("uuid_v4", &["seed"]),
    ("super", &[]),
];

/// The names of a function's parameters, of which so many are given without one.
pub(super) fn parameters(function: &str, given: usize) -> Option<&'static [&'static str]> {
    match (function, given) {
        ("range", 2..) => return Some(&["start", "end", "step_by"]),
        ("seq", 2..) => return Some(&["start", "end", "step"]),
        _ => {}
    }
    let own = PARAMETERS.iter().find(|(name, _)| *name == function).map(|(_, names)| *names);
    own.or_else(|| generators::parameters(function))
}

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let own = PARAMETERS.iter().map(|(name, _)| *name);
    own.chain(generators::all().map(|(name, _)| name).filter(|name| name.starts_with("fake_")))
}

/// The same of filters, the value that is filtered apart.
pub(super) fn parameters_of_filter(filter: &str) -> Option<&'static [&'static str]> {
    Some(match filter {
        "concat" => &["with"],
        "date" => &["format", "timezone"],
        "default" => &["value"],
        "filter" => &["attribute", "value"],
        "get" => &["key", "default"],
        "group_by" | "map" | "sort" | "unique" => &["attribute"],
        "indent" => &["prefix", "first", "blank"],
        "int" | "float" => &["default"],
        "join" => &["sep"],
        "json_encode" => &["pretty"],
        "nth" => &["n"],
        "pluralize" => &["singular", "plural"],
        "replace" => &["from", "to"],
        "round" => &["method", "precision"],
        "slice" => &["start", "end"],
        "split" | "trim_end_matches" | "trim_start_matches" => &["pat"],
        "truncate" => &["length", "end"],
        _ => return None,
    })
}

/// The names of all filters.
pub(super) fn filters() -> Vec<String> {
    let mut names: Vec<String> = tera().0.filters.into_keys().collect();
    names.sort();
    names
}

/// A Tera with all functions, and what they share with the rendering.
pub(super) fn tera() -> (Tera, Session) {
    let (mut tera, session) = (Tera::default(), Session::new());
    tera.autoescape_on(Vec::new());
    register_world(&mut tera, &session);
    register_generators(&mut tera, &session);
    register_work(&mut tera, &session);
    tera.register_function("sha256", |arguments: &Arguments| {
        Ok(Value::String(sha256(text(arguments, &["s", "input"])?.as_bytes())))
    });
    tera.register_function("toml_encode", |arguments: &Arguments| {
        toml_encode(needed(arguments, "value")?).map(Value::String)
    });
    tera.register_filter("toml_encode", |value: &Value, _: &Arguments| {
        toml_encode(value).map(Value::String)
    });
    tera.register_function(JSON, |arguments: &Arguments| {
        let json = text(arguments, &["v"])?;
        serde_json::from_str(&json).map_err(Error::msg)
    });
    tera.register_function(IS_SET, |arguments: &Arguments| {
        Ok(Value::Bool(!plain(needed(arguments, "v")?).is_empty()))
    });
    tera.register_function(NONE, |_: &Arguments| Ok(Value::Null));
    tera.register_function(LIST, |arguments: &Arguments| {
        Ok(numbered(arguments, 'a').into_iter().cloned().collect())
    });
    tera.register_function(MAP, |arguments: &Arguments| {
        let (keys, values) = (numbered(arguments, 'k'), numbered(arguments, 'v'));
        let entry = |(key, value): (&Value, &Value)| (plain(key), value.clone());
        Ok(Value::Object(keys.into_iter().zip(values).map(entry).collect::<Map<_, _>>()))
    });
    tera.register_function(PAIRS, |arguments: &Arguments| pairs(needed(arguments, "v")?));
    tera.register_tester("none", |value: Option<&Value>, _: &[Value]| {
        Ok(value.is_none_or(Value::is_null))
    });
    (tera, session)
}

/// What comes from outside: the environment and the clock.
fn register_world(tera: &mut Tera, session: &Session) {
    for name in ["env", "get_env"] {
        let session = session.clone();
        tera.register_function(name, move |arguments: &Arguments| {
            let name = text(arguments, &["name"])?;
            let value = session.env(&name)?.map(Value::String);
            value.or_else(|| arguments.get("default").cloned()).ok_or_else(|| {
                Error::msg(format!(
                    "the environment variable `{name}` is not set, and there is no default"
                ))
            })
        });
    }
    for name in ["now_rfc3339", "now", "now_unix"] {
        let session = session.clone();
        tera.register_function(name, move |arguments: &Arguments| {
            let clock = session.state().clock.clone();
            if name != "now_unix" && arguments.get("timestamp") != Some(&Value::Bool(true)) {
                return Ok(Value::String(clock));
            }
            let time: jiff::Timestamp = clock.parse().map_err(Error::msg)?;
            Ok(time.as_second().into())
        });
    }
}

fn register_generators(tera: &mut Tera, session: &Session) {
    for (name, generate) in generators::all() {
        let session = session.clone();
        tera.register_function(name, move |arguments: &Arguments| {
            generate(&mut session.random(name, arguments)?, arguments).map_err(Error::msg)
        });
    }
    tera.register_function("seq", {
        let session = session.clone();
        move |arguments: &Arguments| sequence(&session, arguments, 1)
    });
    let range = session.clone();
    tera.register_function("range", move |arguments: &Arguments| sequence(&range, arguments, 0));
}

/// Numbers from `start` to `end`: of `seq` inclusive, as in a shell, of `range` exclusive.
fn sequence(session: &Session, arguments: &Arguments, inclusive: i64) -> Result<Value> {
    let integer = |name: &str| match arguments.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_i64()
            .map(Some)
            .ok_or_else(|| Error::msg(format!("`{name}` must be an integer, it is {value}"))),
    };
    let start = integer("start")?.unwrap_or(inclusive);
    let end = integer("end")?.ok_or_else(|| Error::msg("the argument `end` is missing"))?;
    let step = integer("step_by")?.or(integer("step")?).unwrap_or(1);
    if step < 1 {
        return Err(Error::msg("the step must be at least 1"));
    }
    if inclusive == 0 && start > end {
        return Err(Error::msg("the range's `start` is after its `end`"));
    }
    let span = end.saturating_add(inclusive).saturating_sub(start).max(0);
    let length = (span as u64).div_ceil(step as u64);
    let mut state = session.state();
    let stopped = if length > LONGEST_RANGE {
        state.work.stop(format!("a range has {length} elements, the most is {LONGEST_RANGE}"))
    } else {
        state.work.spend(length / 4)
    };
    stopped.map_err(Error::msg)?;
    Ok((start..end.saturating_add(inclusive)).step_by(step as usize).map(Value::from).collect())
}

/// What keeps a rendering within bounds.
fn register_work(tera: &mut Tera, session: &Session) {
    let tick = session.clone();
    tera.register_function(TICK, move |arguments: &Arguments| {
        let nodes = arguments.get("n").and_then(Value::as_u64).unwrap_or(1);
        tick.state().work.spend(nodes).map_err(Error::msg)?;
        Ok(Value::Null)
    });
    for (name, weigh) in
        [(WEIGH, Work::keep as fn(&mut Work, &Value) -> Outcome), (EMIT, Work::write)]
    {
        let session = session.clone();
        tera.register_function(name, move |arguments: &Arguments| {
            let value = needed(arguments, "v")?;
            weigh(&mut session.state().work, value).map_err(Error::msg)?;
            Ok(value.clone())
        });
    }
    // Filters whose output is not bounded by what goes in are weighed before they do it.
    for name in ["replace", "join", "indent"] {
        let filter = tera.filters[name].clone();
        let session = session.clone();
        tera.register_filter(name, move |value: &Value, arguments: &Arguments| {
            let largest = estimate(value, arguments);
            if largest > super::LARGEST as u64 {
                let reason = format!("the filter `{name}` makes {largest} bytes");
                session.state().work.stop(reason).map_err(Error::msg)?;
            }
            filter.filter(value, arguments)
        });
    }
}

/// The most bytes a filter can make when it puts its arguments in at every place there is.
fn estimate(value: &Value, arguments: &Arguments) -> u64 {
    let longest = |value: &Value| value.as_str().map_or(0, |text| text.len() as u64);
    let put_in = ["to", "sep", "prefix"].iter().filter_map(|name| arguments.get(*name));
    let put_in = put_in.map(longest).max().unwrap_or(0);
    match value {
        Value::String(text) => {
            let from = arguments.get("from").map_or(1, longest).max(1);
            text.len() as u64 + (text.len() as u64 / from + 1) * put_in
        }
        Value::Array(items) => items.iter().map(longest).sum::<u64>() + items.len() as u64 * put_in,
        _ => 0,
    }
}

fn needed<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a Value> {
    arguments.get(name).ok_or_else(|| Error::msg(format!("the argument `{name}` is missing")))
}

/// The first of these arguments that was given, as text.
fn text(arguments: &Arguments, names: &[&str]) -> Result<String> {
    let given = names.iter().find_map(|name| arguments.get(*name));
    given.map(plain).ok_or_else(|| Error::msg(format!("the argument `{}` is missing", names[0])))
}

/// A value as a template writes it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The arguments `a0`, `a1`, …
fn numbered(arguments: &Arguments, letter: char) -> Vec<&Value> {
    (0..).map_while(|number| arguments.get(&format!("{letter}{number}"))).collect()
}

/// A map as a list of pairs; a list of pairs as it is.
fn pairs(value: &Value) -> Result<Value> {
    let pair = |pair: &Value| match pair.as_array().map(Vec::len) {
        Some(2) => Ok(pair.clone()),
        _ => Err(Error::msg(format!("a loop over pairs came to `{pair}`, which is none"))),
    };
    match value {
        Value::Object(entries) => Ok(entries
            .iter()
            .map(|(key, value)| Value::from(vec![key.clone().into(), value.clone()]))
            .collect()),
        Value::Array(items) => items.iter().map(pair).collect(),
        other => Err(Error::msg(format!(
            "a loop over pairs needs a map or a list of pairs, not `{other}`"
        ))),
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as TOML writes it on one line.
fn toml_encode(value: &Value) -> Result<String> {
    Ok(match value {
        Value::Null => return Err(Error::msg("TOML has no null")),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => toml_edit::Value::from(text.as_str()).to_string(),
        Value::Array(items) => {
            let items = items.iter().map(toml_encode).collect::<Result<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                Ok(format!("{} = {}", toml_edit::Key::new(key), toml_encode(value)?))
            });
            format!("{{ {} }}", entries.collect::<Result<Vec<_>>>()?.join(", "))
        }
    })
}
