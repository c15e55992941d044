//! The functions templates can call.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tera::{Error, Result, Tera, Value};

/// The environment as far as the template has read it.
#[derive(Clone, Default)]
pub(super) struct Environment(Arc<Mutex<Variables>>);

#[derive(Default)]
struct Variables {
    known: BTreeMap<String, Option<String>>,
    wanted: Option<String>,
}

impl Environment {
    /// A variable, or an error that ends the rendering when it is not known yet.
    fn get(&self, name: &str) -> Result<Option<String>> {
        let mut variables = self.0.lock().expect("no holder panics");
        if let Some(value) = variables.known.get(name) {
            return Ok(value.clone());
        }
        variables.wanted = Some(name.to_owned());
        Err(Error::msg(format!("the variable {name} is not known yet")))
    }

    /// The variable that ended the rendering, if one did.
    pub(super) fn take_wanted(&self) -> Option<String> {
        self.0.lock().expect("no holder panics").wanted.take()
    }

    pub(super) fn insert(&self, name: String, value: Option<String>) {
        self.0.lock().expect("no holder panics").known.insert(name, value);
    }
}

/// Makes all functions known to `tera`; `clock` tells the time it is in the test.
pub(super) fn register(
    tera: &mut Tera,
    environment: &Environment,
    clock: &(impl Fn() -> String + Clone + Send + Sync + 'static),
) {
    for name in ["env", "get_env"] {
        let environment = environment.clone();
        tera.register_function(name, move |arguments: &Arguments| {
            let name = text(arguments, &["name"])?;
            let value = environment.get(&name)?.map(Value::String);
            value.or_else(|| arguments.get("default").cloned()).ok_or_else(|| {
                Error::msg(format!(
                    "the environment variable `{name}` is not set, and there is no default"
                ))
            })
        });
    }
    for name in ["now_rfc3339", "now"] {
        let clock = clock.clone();
        tera.register_function(name, move |_: &Arguments| Ok(Value::String(clock())));
    }
    tera.register_function("sha256", |arguments: &Arguments| {
        Ok(Value::String(sha256(text(arguments, &["s", "input"])?.as_bytes())))
    });
    tera.register_function("toml_encode", |arguments: &Arguments| {
        let value =
            arguments.get("value").ok_or_else(|| Error::msg("toml_encode needs `value`"))?;
        toml_encode(value).map(Value::String)
    });
}

type Arguments = HashMap<String, Value>;

/// The first of these arguments that was given, as text.
fn text(arguments: &Arguments, names: &[&str]) -> Result<String> {
    let given = names.iter().find_map(|name| arguments.get(*name));
    match given {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
        None => Err(Error::msg(format!("the argument `{}` is missing", names[0]))),
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
