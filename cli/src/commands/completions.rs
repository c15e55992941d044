//! `clnrm completions`

use crate::args::CompletionsArgs;
use crate::completion;
use crate::exit::Exit;
use crate::printer;

pub(crate) fn run(args: &CompletionsArgs) -> Exit {
    printer::stream(|out| completion::write_script(args.shell, out));
    Exit::Green
}
