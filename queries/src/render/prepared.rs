//! Parsed libraries: many templates import the same ones, and parsing them costs more than all the
//! rest of a rendering.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tera::Tera;

/// Texts by the names templates use.
type Libraries = BTreeMap<String, Arc<str>>;

/// A Tera that knows nothing but some libraries.
struct Prepared {
    libraries: Libraries,
    tera: Tera,
}

thread_local! {
    /// The last one used on this thread. It depends on nothing but the texts of its libraries, so
    /// a rendering is that of a new Tera.
    static LAST: RefCell<Option<Prepared>> = const { RefCell::new(None) };
}

/// Calls `render` with a Tera that knows these libraries and the template `name`.
///
/// # Errors
/// When one of them does not parse.
pub(super) fn with_template<T>(
    libraries: Libraries,
    name: &str,
    text: &str,
    render: impl FnOnce(&mut Tera) -> T,
) -> tera::Result<T> {
    let last = LAST.take().filter(|last| last.libraries == libraries);
    let mut prepared = match last {
        Some(last) => last,
        None => {
            let mut tera = Tera::default();
            tera.autoescape_on(Vec::new());
            tera.add_raw_templates(libraries.iter().map(|(name, text)| (name, &**text)))?;
            Prepared { libraries, tera }
        }
    };
    prepared.tera.add_raw_template(name, text)?;
    let rendered = render(&mut prepared.tera);
    prepared.tera.templates.remove(name);
    LAST.set(Some(prepared));
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a Tera without a past makes of it.
    fn alone(libraries: &Libraries, name: &str, text: &str) -> Option<String> {
        let mut tera = Tera::default();
        tera.autoescape_on(Vec::new());
        tera.add_raw_templates(libraries.iter().map(|(name, text)| (name, &**text))).ok()?;
        tera.add_raw_template(name, text).ok()?;
        tera.render(name, &tera::Context::new()).ok()
    }

    #[test]
    fn a_rendering_is_that_of_a_new_tera() {
        let one = "{% macro say(w) %}one {{ w }}{% endmacro say %}";
        let two = "{% macro say(w) %}two {{ w }}{% endmacro say %}";
        let base = "<{% block a %}base{% endblock a %}>";
        let libraries = [
            vec![],
            vec![("lib", one)],
            vec![("lib", two)],
            vec![("base", base)],
            vec![("lib", "{% macro")],
        ];
        let texts = [
            "plain",
            "{% import \"lib\" as m %}{{ m::say(w=\"x\") }}",
            "{% extends \"base\" %}{% block a %}mine{% endblock a %}",
            "{% include \"base\" %}",
            "{{ nothing }}",
            "{% broken",
        ];
        let mut rendered = 0;
        for round in 0..40 {
            // Every pair of a library and a text comes after many others.
            let libraries = &libraries[round * 7 % libraries.len()];
            let files = libraries.iter().map(|(name, text)| (name.to_string(), (*text).into()));
            let files: Libraries = files.collect();
            for (number, text) in texts.iter().enumerate() {
                let name = ["a", "b"][(round + number) % 2];
                let render = |tera: &mut Tera| tera.render(name, &tera::Context::new()).ok();
                let seen = with_template(files.clone(), name, text, render).ok().flatten();
                assert_eq!(seen, alone(&files, name, text), "{libraries:?} {text}");
                rendered += usize::from(seen.is_some());
            }
        }
        assert!(rendered > 60, "most of them mean something: {rendered}");
    }
}
