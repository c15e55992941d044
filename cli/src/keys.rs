//! Keys that are pressed while clnrm watches.

use std::io::{IsTerminal, Read, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};

use crate::inbox::{Happening, Wish};
use crate::printer;

/// How the terminal was before.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
/// Before it is looked again whether this program is in front, and who else has been meanwhile.
const GLANCE: Duration = Duration::from_millis(500);

/// A terminal that gives every key at once, until it is dropped.
pub(crate) struct Keys {
    has_quit: Arc<AtomicBool>,
}

impl Keys {
    /// Sends what is wished to `send`; `None` where nobody sits at a terminal.
    pub(crate) fn listen(send: Sender<Happening>) -> Option<Keys> {
        // Where the output goes elsewhere, that may be a program which wants the keys.
        let sits = stdin().is_terminal() && stdout().is_terminal() && printer::is_live();
        if !sits || !is_in_front() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        take_keys();
        let has_quit = Arc::new(AtomicBool::new(false));
        let keys = Keys { has_quit: has_quit.clone() };
        std::thread::spawn(move || read(&send, &has_quit));
        Some(keys)
    }

    /// Whether it was a key that ended the program.
    pub(crate) fn has_quit(&self) -> bool {
        self.has_quit.load(Ordering::Relaxed)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was, unless somebody else has it now.
pub(crate) fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before.filter(|_| is_in_front()) {
        let _ = unstopped().and_then(|()| Ok(tcsetattr(stdin(), OptionalActions::Now, &before)?));
    }
}

/// Whether the terminal is this program's now.
fn is_in_front() -> bool {
    tcgetpgrp(stdin()) == Ok(getpgrp())
}

/// Keeps this thread from being stopped for what it does to a terminal in the background.
fn unstopped() -> std::io::Result<()> {
    let mut stops = SigSet::empty();
    stops.add(Signal::SIGTTIN);
    stops.add(Signal::SIGTTOU);
    Ok(stops.thread_block()?)
}

/// Has the terminal give every key at once, as it may not do any more after the program was stopped.
fn take_keys() {
    let Ok(mut modes) = tcgetattr(stdin()) else { return };
    if modes.local_modes.contains(LocalModes::ICANON) {
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
    }
}

fn read(send: &Sender<Happening>, has_quit: &AtomicBool) {
    let _ = unstopped();
    let (mut typed, mut bytes) = (Typed::default(), [0; 64]);
    let glance = Timespec::try_from(GLANCE).expect("it is short");
    loop {
        let input = stdin();
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        let is_ready = poll(&mut ready, Some(&glance)).is_ok_and(|ready| ready > 0);
        if !is_in_front() {
            // What is typed is somebody else's, and waiting for it would end at once.
            std::thread::sleep(GLANCE);
            continue;
        }
        take_keys();
        if !is_ready {
            continue;
        }
        let read = match stdin().read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(read) => &bytes[..read],
        };
        // Arrows and the like mean nothing here.
        if matches!(read, [ESCAPE, b'[' | b'O', ..]) {
            continue;
        }
        for byte in read {
            let pressed = typed.press(*byte);
            printer::ask(typed.asks().as_deref());
            match pressed {
                Pressed::Nothing => {}
                Pressed::Help => printer::talk(HELP),
                Pressed::Quit => {
                    has_quit.store(true, Ordering::Relaxed);
                    let _ = raise(Signal::SIGINT);
                }
                // Nobody listens any more when the program ends.
                Pressed::Wish(wish) => drop(send.send(Happening::Wished(wish))),
            }
        }
    }
}

/// The keys that matter most, in a line.
pub(crate) const HINT: &str =
    "h help, q quit, a all, f failed, r again, w why, p path, t name or tag";

const HELP: &str = "
  a         run all tests
  f         run the tests that fail
  r, Enter  run again what ran last
  p         watch only tests with something in their path
  t         watch only tests with something in their name, a scenario's, or a tag
  w         why the last runs were made
  g         what the tests that were told of last rest on
  h         this
  q         quit";

const ESCAPE: u8 = 0x1b;
const ERASE: [u8; 2] = [0x7f, 0x08];

/// What was typed so far.
#[derive(Default)]
struct Typed {
    question: Option<Question>,
    answer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Question {
    Path,
    Name,
}

/// What a key means.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    Help,
    Quit,
    Wish(Wish),
}

impl Typed {
    fn press(&mut self, byte: u8) -> Pressed {
        match self.question {
            None => self.command(byte),
            Some(question) => self.letter(question, byte),
        }
    }

    fn command(&mut self, byte: u8) -> Pressed {
        let wish = match byte {
            b'a' => Wish::All,
            b'f' => Wish::Failed,
            b'r' | b'\r' | b'\n' => Wish::Again,
            b'w' => Wish::Why,
            b'g' => Wish::Graph,
            b'h' | b'?' => return Pressed::Help,
            b'q' => return Pressed::Quit,
            b'p' | b't' => {
                self.question = Some(if byte == b'p' { Question::Path } else { Question::Name });
                return Pressed::Nothing;
            }
            _ => return Pressed::Nothing,
        };
        Pressed::Wish(wish)
    }

    /// A letter of an answer, or its end.
    fn letter(&mut self, question: Question, byte: u8) -> Pressed {
        match byte {
            b'\r' | b'\n' => {
                let answer = String::from_utf8_lossy(&self.answer).trim().to_owned();
                *self = Typed::default();
                return Pressed::Wish(match question {
                    Question::Path => Wish::Path(answer),
                    Question::Name => Wish::Name(answer),
                });
            }
            ESCAPE => *self = Typed::default(),
            _ if ERASE.contains(&byte) => {
                // A letter has one byte, or a first one and others that only go on.
                while self.answer.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if byte < b' ' => {}
            _ => self.answer.push(byte),
        }
        Pressed::Nothing
    }

    /// The question, and its answer so far.
    fn asks(&self) -> Option<String> {
        let question = match self.question? {
            Question::Path => "only paths with (Enter: all, Esc: as it was)",
            Question::Name => "only names or tags with (Enter: all, Esc: as it was)",
        };
        Some(format!("{question}: {}", String::from_utf8_lossy(&self.answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(keys: &str) -> (Vec<Pressed>, Typed) {
        let mut typed = Typed::default();
        let pressed = keys.bytes().map(|byte| typed.press(byte));
        (pressed.filter(|it| *it != Pressed::Nothing).collect(), typed)
    }

    #[test]
    fn an_answer_is_typed_erased_and_given() {
        let (pressed, typed) = type_in("pabü\x7fc\r");
        assert_eq!(pressed, [Pressed::Wish(Wish::Path("abc".to_owned()))]);
        assert_eq!(typed.asks(), None);
        let (pressed, typed) = type_in("tsmo");
        assert_eq!(pressed, []);
        assert!(typed.asks().unwrap().ends_with(": smo"));
    }

    #[test]
    fn letters_of_an_answer_are_no_commands() {
        let (pressed, _) = type_in("tq\x1bq");
        assert_eq!(pressed, [Pressed::Quit]);
        let (pressed, _) = type_in("p\r\r");
        assert_eq!(pressed, [Pressed::Wish(Wish::Path(String::new())), Pressed::Wish(Wish::Again)]);
    }
}
