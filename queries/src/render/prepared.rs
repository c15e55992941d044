//! Parsed libraries: many templates use the same macros, and parsing them costs more than all the
//! rest of a rendering.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tera::{Template, Tera};

use super::functions::{self, Session};
use super::guard;
use super::library::{Place, Ready, Uses};
use crate::dialect::Default;

/// Templates by the names others know them by.
pub(crate) type Libraries = BTreeMap<String, Arc<Library>>;

/// As much of a template as others use.
#[derive(Clone, Debug, std::default::Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Library {
    /// Whether it is all of it.
    whole: bool,
    text: String,
    defaults: Vec<Default>,
    /// What it imports, by alias.
    imports: BTreeMap<String, String>,
    /// Where what it includes lies, by the names it uses.
    includes: BTreeMap<String, String>,
}

impl Library {
    /// Adds a macro, or all of a template.
    pub(super) fn add(&mut self, whole: bool, ready: &Ready, uses: &Uses) {
        if self.whole {
            return;
        }
        self.whole = whole;
        self.text.push_str(&ready.text);
        self.defaults.extend(ready.defaults.iter().cloned());
        let told = |(name, place): (&String, &Place)| (name.clone(), place.to_string());
        self.imports.extend(uses.imports.iter().map(told));
        self.includes.extend(uses.includes.iter().map(told));
    }

    /// The names of what it imports.
    pub(super) fn imported(&self) -> impl Iterator<Item = String> {
        self.imports.values().cloned()
    }

    fn parse(&self, name: &str) -> tera::Result<Template> {
        let mut template = Template::new(name, None, &self.text)?;
        let imports = self.imports.iter();
        template.imported_macro_files =
            imports.map(|(alias, place)| (place.clone(), alias.clone())).collect();
        guard::fit(&mut template, &self.includes, &self.defaults)?;
        Ok(template)
    }
}

/// A Tera that knows nothing but some libraries.
struct Prepared {
    libraries: Libraries,
    tera: Tera,
    session: Session,
}

/// So many sets of libraries are kept a thread.
const KEPT: usize = 8;

thread_local! {
    /// The last ones used on this thread, the latest last. They depend on nothing but the texts of
    /// their libraries, so a rendering is that of a new Tera.
    static LAST: RefCell<Vec<Prepared>> = const { RefCell::new(Vec::new()) };
}

/// Calls `render` with a Tera that knows these libraries and a template.
///
/// # Errors
/// When a library does not parse, or they do not fit together.
pub(super) fn with_template<T>(
    libraries: Libraries,
    template: Template,
    render: impl FnOnce(&Tera, &Session) -> T,
) -> tera::Result<T> {
    let known = LAST.with_borrow_mut(|last| {
        let at = last.iter().rposition(|prepared| prepared.libraries == libraries)?;
        Some(last.remove(at))
    });
    let mut prepared = match known {
        Some(prepared) => prepared,
        None => {
            let (mut tera, session) = functions::tera();
            for (name, library) in &libraries {
                tera.templates.insert(name.clone(), library.parse(name)?);
            }
            Prepared { libraries, tera, session }
        }
    };
    let name = template.name.clone();
    let inherits = template.parent.is_some() || !template.blocks.is_empty();
    prepared.tera.templates.insert(name.clone(), template);
    if inherits || prepared.libraries.values().any(|library| library.whole) {
        prepared.tera.build_inheritance_chains()?;
    }
    let rendered = render(&prepared.tera, &prepared.session);
    prepared.tera.templates.remove(&name);
    LAST.with_borrow_mut(|last| {
        if last.len() == KEPT {
            last.remove(0);
        }
        last.push(prepared);
    });
    Ok(rendered)
}
