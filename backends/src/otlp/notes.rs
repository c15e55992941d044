//! Notes about lost data: each sentence once, up to a limit.

use std::fmt;

/// Different sentences; more are only counted.
const MAX_NOTES: usize = 10;
/// Characters of a sentence, which may quote what was sent.
const MAX_NOTE: usize = 400;

/// One sentence for each loss.
#[derive(Debug, Default)]
pub(super) struct Notes {
    sentences: Vec<String>,
    unlisted: usize,
}

impl Notes {
    /// Adds a sentence, unless it is there already.
    pub(super) fn add(&mut self, sentence: &dyn fmt::Display) {
        let text = short(sentence);
        if self.sentences.contains(&text) {
            return;
        }
        if self.sentences.len() == MAX_NOTES {
            self.unlisted += 1;
        } else {
            self.sentences.push(text);
        }
    }

    /// Adds the sentences of others.
    pub(super) fn extend(&mut self, others: Notes) {
        self.unlisted += others.unlisted;
        for sentence in others.sentences {
            self.add(&sentence);
        }
    }

    /// How many sentences are listed.
    pub(super) fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Puts `subject` before the sentences that came after the first `known`.
    pub(super) fn name_since(&mut self, known: usize, subject: &dyn fmt::Display) {
        for sentence in &mut self.sentences[known..] {
            *sentence = short(&format_args!("{subject}{sentence}"));
        }
    }

    /// The sentences, sorted, and one that says how many are left out of the list.
    pub(super) fn into_sentences(mut self, lost: &str) -> Vec<String> {
        self.sentences.sort();
        if self.unlisted > 0 {
            self.sentences.push(format!("{} more {lost} were lost", self.unlisted));
        }
        self.sentences
    }
}

fn short(sentence: &dyn fmt::Display) -> String {
    sentence.to_string().chars().take(MAX_NOTE).collect()
}
