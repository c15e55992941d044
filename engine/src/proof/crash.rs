//! A process that dies while it writes the store down leaves one that is cold or right.

use std::path::Path;

use super::*;
use crate::Counts;
use crate::store::torn::{Unsynced, dies};

/// Files in fours, of which each holds the words of those after it.
pub(super) struct Chain {
    files: Memory,
    folder: TempDir,
    size: usize,
}

impl Chain {
    pub(super) fn new(size: usize) -> Chain {
        let files = Memory::default();
        let chain = Chain { files, folder: in_memory(), size };
        (0..size).for_each(|number| chain.write(number, "first"));
        chain
    }

    pub(super) fn write(&self, number: usize, word: &str) {
        let next = (number + 1..self.size).take_while(|next| next % 4 != 0);
        let next: Vec<String> = next.map(|next| format!("@c/{next}")).collect();
        self.files.write(&format!("c/{number}"), format!("{word}{number} ! {}", next.join(" ")));
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// What comes of all files, with what had to be asked for anew and written down.
    pub(super) fn settle(&self, store: Option<&Path>) -> (Vec<Vec<String>>, Engine) {
        let mut engine = Engine::new(Options {
            system: Arc::new(self.files.clone()),
            facts: Arc::new(|_, _| None),
            tool: b"proof",
            queries: &QUERIES,
            store: store.map(Path::to_owned),
            checking: Checking::Nothing,
            trust: Default::default(),
        });
        let units: Vec<Unit> = (0..self.size).map(|at| Unit::file(format!("c/{at}"))).collect();
        loop {
            let answers = engine.roots(&ANSWER, &units).into_iter().map(Result::unwrap);
            let answers: Vec<Arc<Answer>> = answers.collect();
            let open = answers.iter().filter_map(|answer| match answer.as_ref() {
                (words, Some(Err((key, _)))) => Some((words.join(" "), *key)),
                _ => None,
            });
            let open: Vec<(String, Digest)> = open.collect();
            if open.is_empty() {
                let said = |answer: &Arc<Answer>| {
                    let (words, answer) = answer.as_ref();
                    let answer = answer.clone().unwrap().unwrap();
                    assert_eq!(answer, words.join(" "), "an effect belongs to its words");
                    words.clone()
                };
                return (answers.iter().map(said).collect(), engine);
            }
            for (value, key) in open {
                engine.set_effect(key, value.as_bytes(), Keep::Value, &[]);
            }
        }
    }
}

/// Dies at operations of one commit, at all or some of them; gives how many there were.
fn die(size: usize, operations: impl Iterator<Item = usize>) -> usize {
    let chain = Chain::new(size);
    chain.settle(Some(&chain.store())).1.commit();
    let before = std::fs::read(chain.store()).unwrap();
    (0..size).step_by(9).for_each(|number| chain.write(number, "second"));
    let expected = chain.settle(None).0;
    let (mut died, mut cold) = (0, 0);
    for operation in operations {
        let ways = [Unsynced::Kept, Unsynced::Lost, Unsynced::Some(0x9E37_79B9_7F4A_7C15)];
        let mut over = false;
        for unsynced in ways {
            std::fs::write(chain.store(), &before).unwrap();
            let (seen, mut engine) = chain.settle(Some(&chain.store()));
            assert_eq!(seen, expected);
            over |= !dies(&chain.store(), operation, unsynced, || engine.commit());
            drop(engine);
            died += 1;
            let at = format!("operation {operation}, unsynced writes {unsynced:?}");
            let (seen, mut engine) = chain.settle(Some(&chain.store()));
            assert_eq!(seen, expected, "{at}");
            let executed = Counts::of(&engine.take_events()).executed;
            assert!(executed <= 3 * size as u64, "{at}");
            cold += usize::from(executed == 3 * size as u64);
            engine.commit();
            let (seen, engine) = chain.settle(Some(&chain.store()));
            assert_eq!(seen, expected, "after {at}");
            assert_eq!(Counts::of(&engine.take_events()).executed, 0, "after {at}");
        }
        if over {
            break;
        }
    }
    println!("{size} files: died {died} times, of which {cold} left nothing");
    died
}

#[test]
fn a_process_may_die_at_any_operation() {
    // Three nodes a file.
    let died = die(70, 0..);
    assert!(died > 30, "there are many operations: {died}");
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    if full {
        // 10,000 nodes: a sample of the operations of a large commit.
        let died = die(3_334, (0..=500 / 3).map(|number| number * 4));
        assert!(died >= 500, "there are as many operations: {died}");
    }
}
