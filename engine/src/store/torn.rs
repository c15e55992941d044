//! A file whose process dies at one of its operations, for tests of the store.
//!
//! After the last sync before the end, every write may or may not have reached the disk, and the
//! last one in part.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    Kept,
    Lost,
    /// Each for itself; the bits say which are kept.
    Some(u64),
}

#[derive(Debug)]
struct State {
    /// As it was when it was last synced, and what was done to it since.
    synced: Vec<u8>,
    since: Vec<Operation>,
    /// As its process sees it.
    now: Vec<u8>,
    /// Operations until the end.
    left: usize,
    unsynced: Unsynced,
}

#[derive(Debug)]
enum Operation {
    Write(usize, Vec<u8>),
    SetLength(usize),
}

impl Operation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Operation::SetLength(length) => bytes.resize(*length, 0),
            Operation::Write(at, data) => {
                bytes.resize(bytes.len().max(at + data.len()), 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

thread_local! {
    static NEXT: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
}

/// Runs `then`, in which the store's process dies at that operation on its file, and leaves in the
/// file what a disk would have. Returns whether there were so many operations.
pub(crate) fn dies(path: &Path, operation: usize, unsynced: Unsynced, then: impl FnOnce()) -> bool {
    let synced = std::fs::read(path).unwrap();
    let (now, left) = (synced.clone(), operation + 1);
    let state = Arc::new(Mutex::new(State { synced, since: Vec::new(), now, left, unsynced }));
    NEXT.set(Some(state.clone()));
    then();
    NEXT.set(None);
    let state = state.lock().unwrap();
    let mut bytes = state.synced.clone();
    for (number, operation) in state.since.iter().enumerate() {
        let kept = match state.unsynced {
            Unsynced::Kept => true,
            Unsynced::Lost => false,
            Unsynced::Some(bits) => bits.rotate_right(number as u32) & 1 == 1,
        };
        if kept {
            operation.apply(&mut bytes);
        }
    }
    std::fs::write(path, bytes).unwrap();
    state.left == 0
}

/// The file that is to be used instead of the real one, if its process is to die.
pub(super) fn file() -> Option<Torn> {
    NEXT.with_borrow(|next| next.clone()).map(Torn)
}

#[derive(Debug)]
pub(super) struct Torn(Arc<Mutex<State>>);

impl Torn {
    /// Counts an operation; at the last one, what is left of it happens, and then nothing more.
    fn operate(&self, operation: Operation, part: Option<Operation>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.left <= 1 {
            if state.left == 1 {
                state.since.extend(part);
            }
            state.left = 0;
            return Err(io::Error::other("the process has died"));
        }
        state.left -= 1;
        operation.apply(&mut state.now);
        state.since.push(operation);
        Ok(())
    }
}

impl StorageBackend for Torn {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.now.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.operate(Operation::SetLength(length as usize), None)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.left <= 1 {
            state.left = 0;
            return Err(io::Error::other("the process has died"));
        }
        state.left -= 1;
        state.synced = state.now.clone();
        state.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        let part = Operation::Write(at, data[..data.len() / 2].to_vec());
        self.operate(Operation::Write(at, data.to_vec()), Some(part))
    }
}
