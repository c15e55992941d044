//! `clnrm completions`

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs};
use crate::exit::Exit;
use crate::printer;

pub(crate) fn run(args: &CompletionsArgs) -> Exit {
    printer::stream(|out| {
        let mut script = Vec::new();
        clap_complete::generate(args.shell, &mut Args::command(), "clnrm", &mut script);
        out.write_all(&script)
    });
    Exit::Green
}
