//! `clnrm schema`

use crate::exit::Exit;
use crate::printer;
use crate::schema::TestFile;

pub(crate) fn run() -> anyhow::Result<Exit> {
    let schema = schemars::schema_for!(TestFile);
    printer::json(&schema);
    Ok(Exit::Green)
}
