//! `clnrm template`

use crate::args::TemplateArgs;
use crate::exit::Exit;
use crate::printer;

/// Whole test files, by kind.
pub(crate) const KINDS: [(&str, &str); 8] = [
    ("basic", include_str!("../../../templates/kinds/basic.clnrm.toml")),
    ("api", include_str!("../../../templates/kinds/api.clnrm.toml")),
    ("otel", include_str!("../../../templates/kinds/otel.clnrm.toml")),
    ("database", include_str!("../../../templates/kinds/database.clnrm.toml")),
    ("deterministic", include_str!("../../../templates/kinds/deterministic.clnrm.toml.tera")),
    ("matrix", include_str!("../../../templates/kinds/matrix.clnrm.toml.tera")),
    ("macros", include_str!("../../../templates/kinds/macros.clnrm.toml.tera")),
    ("full-validation", include_str!("../../../templates/kinds/full-validation.clnrm.toml")),
];

pub(crate) fn run(args: &TemplateArgs) -> anyhow::Result<Exit> {
    Ok(printer::one_of("kind", &KINDS, args.kind.as_deref()))
}
