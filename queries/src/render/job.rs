//! A rendering: a template and what it knows in, text or a diagnostic out, within bounds.

use std::collections::BTreeMap;
use std::io::Write;

use tera::Context;

use super::functions::Session;
use super::parse::chain;
use super::prepared::Libraries;
use super::{LARGEST, NOWHERE, guard, prepared};
use crate::dialect::{Default, SyntaxError};

/// A rendering.
pub(super) struct Job<'a> {
    /// A variable of the environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) name: &'a str,
    pub(super) seed: u64,
    pub(super) clock: &'a str,
    pub(super) context: &'a Context,
}

/// What kept a template from being rendered.
pub(super) struct Failure {
    pub(super) error: SyntaxError,
    /// What was written before.
    pub(super) output: String,
    /// Whether the rules of the dialect cannot change it.
    pub(super) settled: bool,
}

impl Job<'_> {
    pub(super) fn render(
        &mut self,
        libraries: Libraries,
        mut parsed: tera::Template,
        places: &BTreeMap<String, String>,
        defaults: &[Default],
    ) -> Result<String, Failure> {
        let broken = |error: &tera::Error| Failure {
            error: render_error(error),
            output: String::new(),
            settled: false,
        };
        guard::fit(&mut parsed, places, defaults).map_err(|error| broken(&error))?;
        self.name.clone_into(&mut parsed.name);
        prepared::with_template(libraries, parsed, |tera, session| {
            session.begin(self.clock, self.seed);
            loop {
                let mut output = Output { text: Vec::new(), full: false };
                let outcome = tera.render_to(self.name, self.context, &mut output);
                // A function cannot reach `cx`, so it stops at the first variable it does not know
                // yet, and rendering starts again with that one: exactly the variables that are
                // read are recorded.
                if let Some(name) = session.take_wanted() {
                    let value = (self.env)(&name);
                    session.insert(name, value);
                    session.restart();
                    continue;
                }
                return finish(outcome, output, session);
            }
        })
        .map_err(|error| broken(&error))?
    }
}

/// What a template writes, as far as that is bearable.
struct Output {
    text: Vec<u8>,
    full: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > LARGEST {
            self.full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn finish(outcome: tera::Result<()>, output: Output, session: &Session) -> Result<String, Failure> {
    let text = String::from_utf8(output.text).expect("templates are text");
    let limit = session
        .exhausted()
        .or_else(|| output.full.then(|| "the template renders to more than 8 MiB".to_owned()));
    match (outcome, limit) {
        (_, Some(reason)) => {
            let error = SyntaxError::new(NOWHERE, reason).code("render/limit");
            Err(Failure { error, output: text, settled: true })
        }
        (Ok(()), None) => Ok(text),
        (Err(error), None) => {
            Err(Failure { error: render_error(&error), output: text, settled: false })
        }
    }
}

/// A template that fails while it renders.
fn render_error(error: &tera::Error) -> SyntaxError {
    let mut reasons: Vec<String> = chain(error).lines().map(str::to_owned).collect();
    let ours = |reason: &String| reason.starts_with("Function call '__");
    reasons.retain(|reason| !ours(reason));
    if reasons.len() > 1 && reasons[0].starts_with("Failed to render") {
        reasons.remove(0);
    }
    let message = reasons.join(": ").replace('\'', "`");
    let message = message.split(" while rendering ").next().unwrap_or_default();
    let first = message.chars().next().map(|first| first.to_lowercase().to_string());
    let rest: String = message.chars().skip(1).collect();
    SyntaxError::new(NOWHERE, first.unwrap_or_default() + &rest).code("render/failed")
}
