//! Exit codes: the same for every command and format.

use std::fmt;

use clnrm_engine::Stopped;

/// How the program ends. When several apply, the greatest of them is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Everything holds.
    Green,
    /// Nothing was selected.
    Nothing,
    /// A test failed.
    Failed,
    /// The command line cannot be carried out.
    Usage,
    /// Files have errors.
    Diagnostics,
    /// A backend failed.
    Backend,
    /// The user interrupted it.
    Interrupted,
    /// A bug of clnrm.
    Bug,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Green => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Diagnostics => 3,
            Exit::Nothing => 4,
            Exit::Backend => 5,
            Exit::Bug => 101,
            Exit::Interrupted => 130,
        }
    }
}

impl From<&Stopped> for Exit {
    fn from(stopped: &Stopped) -> Exit {
        match stopped {
            Stopped::Bug(_) => Exit::Bug,
            Stopped::Cancelled => Exit::Interrupted,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.code())
    }
}

impl std::error::Error for Exit {}
