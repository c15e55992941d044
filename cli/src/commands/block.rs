//! `clnrm gen`

use crate::args::GenArgs;
use crate::exit::Exit;
use crate::printer;

/// Blocks of test files, by name; `settings` is one of `clnrm.toml`.
pub(crate) const BLOCKS: [(&str, &str); 18] = [
    ("meta", include_str!("../../../templates/blocks/meta.toml")),
    ("vars", include_str!("../../../templates/blocks/vars.toml")),
    ("matrix", include_str!("../../../templates/blocks/matrix.toml")),
    ("otel", include_str!("../../../templates/blocks/otel.toml")),
    ("determinism", include_str!("../../../templates/blocks/determinism.toml")),
    ("limits", include_str!("../../../templates/blocks/limits.toml")),
    ("service", include_str!("../../../templates/blocks/service.toml")),
    ("scenario", include_str!("../../../templates/blocks/scenario.toml")),
    ("step", include_str!("../../../templates/blocks/step.toml")),
    ("expect-span", include_str!("../../../templates/blocks/expect-span.toml")),
    ("expect-graph", include_str!("../../../templates/blocks/expect-graph.toml")),
    ("expect-order", include_str!("../../../templates/blocks/expect-order.toml")),
    ("expect-counts", include_str!("../../../templates/blocks/expect-counts.toml")),
    ("expect-window", include_str!("../../../templates/blocks/expect-window.toml")),
    ("expect-status", include_str!("../../../templates/blocks/expect-status.toml")),
    ("expect-hermeticity", include_str!("../../../templates/blocks/expect-hermeticity.toml")),
    ("assertions", include_str!("../../../templates/blocks/assertions.toml")),
    ("settings", include_str!("../../../templates/blocks/settings.toml")),
];

pub(crate) fn run(args: &GenArgs) -> anyhow::Result<Exit> {
    Ok(printer::one_of("block", &BLOCKS, args.block.as_deref()))
}
