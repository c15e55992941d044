//! What a template can call: held against the signatures of macros, and rewritten by them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use clnrm_engine::Cx;

use super::functions;
use super::library::{BUNDLE, Broken, Bundle, Missing, Place, SIGNATURE, Uses, find};
use crate::dialect::{
    Call, Import, Outline, Parameter, Rewritten, Signatures, SyntaxError, TokenKind, rewrite,
    too_many,
};

/// Signatures that were asked for, by namespace and name.
type Asked = BTreeMap<(String, String), Option<Result<Vec<Parameter>, Missing>>>;

/// The macros one can call in a template.
pub(crate) struct Scope<'a> {
    cx: &'a Cx<'a>,
    folder: &'a str,
    outline: &'a Outline<'a>,
    /// What the template imports, by alias.
    pub(crate) imports: BTreeMap<String, Place>,
    /// Bundles that are known to hold what is asked for.
    bundles: Vec<Arc<Result<Bundle, Broken>>>,
}

impl<'a> Scope<'a> {
    /// Of a template that lies in `folder`.
    ///
    /// # Errors
    /// That something it imports is not there.
    pub(crate) fn new(
        cx: &'a Cx<'a>,
        folder: &'a str,
        outline: &'a Outline<'a>,
    ) -> Result<Scope<'a>, SyntaxError> {
        let found = |import: &Import| {
            let place = find(cx, folder, &import.file);
            let place = place.map_err(|error| error.error(&import.file, import.at))?;
            Ok((import.alias.clone(), place))
        };
        let imports = outline.imports.iter().map(found).collect::<Result<_, _>>()?;
        Ok(Scope { cx, folder, outline, imports, bundles: Vec::new() })
    }

    /// The same, for a template all of whose calls can be looked up at once.
    pub(crate) fn with_bundles(mut self) -> Scope<'a> {
        let mut called: BTreeMap<&Place, BTreeSet<String>> = BTreeMap::new();
        for call in self.outline.calls(0..self.outline.segments.len()) {
            if let Some(place) = self.imports.get(&call.namespace) {
                called.entry(place).or_default().insert(call.name.clone());
            }
        }
        let get = |(place, names): (&Place, BTreeSet<String>)| {
            let names: Vec<String> = names.into_iter().collect();
            self.cx.get(&BUNDLE, &place.unit(&names.join(",")))
        };
        self.bundles = called.into_iter().map(get).collect();
        self
    }

    /// The bundles that hold what the template calls.
    pub(crate) fn bundles(&self) -> &[Arc<Result<Bundle, Broken>>] {
        &self.bundles
    }

    fn parameters(&self, namespace: &str, name: &str) -> Option<Result<Vec<Parameter>, Missing>> {
        if namespace == "self" {
            let own = self.outline.macros.iter().rfind(|one| one.name == name);
            return Some(own.map(|one| one.parameters.clone()).ok_or_else(|| {
                Missing(self.outline.macros.iter().map(|one| one.name.clone()).collect())
            }));
        }
        let place = self.imports.get(namespace)?;
        let piece = (place.clone(), name.to_owned());
        let mut bundles = self.bundles.iter().filter_map(|bundle| bundle.as_ref().as_ref().ok());
        if let Some(known) = bundles.find_map(|bundle| bundle.pieces.get(&piece)) {
            return Some(Ok(known.parameters.clone()));
        }
        Some(self.cx.get(&SIGNATURE, &place.unit(name)).as_ref().clone())
    }

    /// Some segments by the rules of the dialect.
    pub(crate) fn rewrite(
        &self,
        segments: Range<usize>,
        marks: Option<usize>,
    ) -> Result<Rewritten, SyntaxError> {
        let of_macro =
            |namespace: &str, name: &str| self.parameters(namespace, name).and_then(Result::ok);
        let signatures = Signatures {
            of_macro: &of_macro,
            of_function: functions::parameters,
            of_filter: functions::parameters_of_filter,
        };
        rewrite(self.outline, segments, &signatures, marks)
    }

    /// What some segments use; every call is held against the signature of what it calls.
    ///
    /// # Errors
    /// A template or macro that is not there, or arguments that do not fit.
    pub(crate) fn uses(
        &self,
        segments: Range<usize>,
        own: Option<&Place>,
    ) -> Result<Uses, SyntaxError> {
        let imports = &self.imports;
        let mut asked = Asked::new();
        let mut uses = Uses::default();
        if segments == (0..self.outline.segments.len()) {
            uses.imports.clone_from(imports);
        }
        for call in self.outline.calls(segments.clone()) {
            let key = (call.namespace.clone(), call.name.clone());
            let parameters =
                asked.entry(key).or_insert_with(|| self.parameters(&call.namespace, &call.name));
            let parameters = match parameters {
                Some(Ok(parameters)) => parameters,
                Some(Err(Missing(names))) => return Err(unknown_macro(call, names)),
                None => {
                    let aliases = imports.keys().map(String::as_str);
                    let message = format!("nothing is imported as `{}`", call.namespace);
                    let error = SyntaxError::new(call.at, message).code("render/unknown-macro");
                    return Err(meant(error, &call.namespace, aliases));
                }
            };
            check_arguments(call, parameters)?;
            match (imports.get(&call.namespace), own) {
                (Some(place), _) if call.namespace != "self" => {
                    uses.macros.insert((place.clone(), call.name.clone()));
                    uses.imports.insert(call.namespace.clone(), place.clone());
                }
                (_, Some(own)) => drop(uses.macros.insert((own.clone(), call.name.clone()))),
                _ => {}
            }
        }
        // A bare call of a macro of the same template.
        if let Some(own) = own {
            for name in self.bare_calls(segments.clone()) {
                uses.macros.insert((own.clone(), name));
            }
        }
        for (name, at) in &self.outline.includes {
            let inside = segments.clone().any(|n| self.outline.segments[n].range.contains(at));
            if inside && !uses.includes.contains_key(name) {
                match find(self.cx, self.folder, name) {
                    Ok(place) => drop(uses.includes.insert(name.clone(), place)),
                    Err(error) if !self.may_be_missing(*at) => return Err(error.error(name, *at)),
                    Err(_) => {}
                }
            }
        }
        uses.names = self.outline.names(segments);
        Ok(uses)
    }

    fn bare_calls(&self, segments: Range<usize>) -> Vec<String> {
        let names: BTreeSet<&str> =
            self.outline.macros.iter().map(|one| one.name.as_str()).collect();
        let mut found = Vec::new();
        for segment in segments {
            let tokens = self.outline.tokens(segment);
            let first = if tokens.word(0) == "macro" { tokens.tokens.len() } else { 0 };
            let called = (first..tokens.tokens.len()).filter(|at| {
                tokens.tokens[*at].kind == TokenKind::Word
                    && tokens.sign(at + 1) == "("
                    && names.contains(tokens.word(*at))
            });
            found.extend(called.map(|at| tokens.word(at).to_owned()));
        }
        found
    }

    /// Whether the `include` at a place has others to fall back to, or says that it may be missing.
    fn may_be_missing(&self, at: usize) -> bool {
        let segments = &self.outline.segments;
        let Some(segment) = segments.iter().position(|one| one.range.contains(&at)) else {
            return false;
        };
        let tokens = self.outline.tokens(segment);
        tokens.sign(1) == "[" || tokens.find(0..tokens.tokens.len(), "missing").is_some()
    }
}

fn unknown_macro(call: &Call, names: &[String]) -> SyntaxError {
    let message = format!("there is no macro `{}::{}`", call.namespace, call.name);
    let error = SyntaxError::new(call.at, message).code("render/unknown-macro");
    meant(error, &call.name, names.iter().map(String::as_str))
}

/// With a hint at what was meant, or at all there is.
pub(super) fn meant<'a>(
    error: SyntaxError,
    name: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> SyntaxError {
    if let Some(nearest) = crate::diagnostic::nearest(name, names.clone()) {
        return error.hint(format!("did you mean `{nearest}`?"));
    }
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 | 13.. => error,
        _ => error.hint(format!("there are {}", names.join(", "))),
    }
}

/// Whether the arguments of a call fit what is called.
fn check_arguments(call: &Call, parameters: &[Parameter]) -> Result<(), SyntaxError> {
    let callee = format!("{}::{}", call.namespace, call.name);
    let error =
        |at: usize, message: String| Err(SyntaxError::new(at, message).code("render/arguments"));
    let names = || parameters.iter().map(|parameter| parameter.name.as_str());
    if let Some(at) = call.positional.get(parameters.len()) {
        let names: Vec<&str> = names().collect();
        return Err(too_many(&callee, &names, *at));
    }
    for (name, at) in &call.named {
        let Some(place) = names().position(|known| known == name) else {
            let message = format!("`{callee}` has no parameter `{name}`");
            let error = SyntaxError::new(*at, message).code("render/arguments");
            return Err(meant(error, name, names()));
        };
        if place < call.positional.len() {
            return error(*at, format!("`{callee}` is given its argument `{name}` twice"));
        }
    }
    let given = |at: usize, name: &str| {
        at < call.positional.len() || call.named.iter().any(|(named, _)| named == name)
    };
    let missing =
        parameters.iter().enumerate().find(|(at, one)| !one.optional && !given(*at, &one.name));
    match missing {
        Some((_, parameter)) => {
            error(call.at, format!("`{callee}` needs the argument `{}`", parameter.name))
        }
        None => Ok(()),
    }
}
