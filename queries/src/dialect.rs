//! The template dialect: Tera 1, and what Jinja's users write besides.
//!
//! A template that Tera renders is Tera's. Any other is rewritten into one: positional arguments,
//! map literals, `none`, `x if y else z`, pairs in a `for`, imports anywhere. Rewriting moves no
//! line, and whatever place Tera complains of is told as the author's.

mod lexer;
mod map;
mod outline;
mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use self::lexer::{Kind, Segment, SyntaxError, TokenKind, is_template, scan};
pub(crate) use self::outline::{Call, EVERYTHING, Import, Outline, Parameter};
pub(crate) use self::rewrite::{
    DEFAULT, Default, JSON, LIST, MAP, MARK, MARK_END, NONE, PAIRS, Rewritten, Signatures, rewrite,
    too_many,
};
