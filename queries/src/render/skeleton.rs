//! Parses templates without their texts. Tera's grammar tries a dozen rules at every character of a
//! text, which takes longer than all the rest of parsing: it is given a mark for each text, and the
//! texts are put in afterwards.

use std::ops::Range;

use tera::Template;
use tera::ast::Node;

use crate::dialect::{Kind, Segment};

/// Marks are the characters of private use from here on, by the number of their text.
const FIRST_MARK: u32 = 0xF_0000;
/// The most texts that can be marked.
const MARKS: usize = 0xFFFE;
/// What every mark, and nothing before it, begins with in UTF-8.
const MARK_BYTE: u8 = 0xF3;
/// Texts that are hardly longer than their mark are left alone.
const SHORTEST: usize = 16;

/// What `Template::new` makes of a text that consists of these segments.
///
/// # Errors
/// What `Template::new` says of it.
pub(crate) fn parse(name: &str, text: &str, segments: &[Segment]) -> tera::Result<Template> {
    match Skeleton::of(text, segments).and_then(|skeleton| skeleton.parse(name)) {
        Some(template) => Ok(template),
        None => Template::new(name, None, text),
    }
}

/// A template with marks for its texts.
struct Skeleton<'a> {
    text: &'a str,
    marked: String,
    /// What the marks stand for.
    ranges: Vec<Range<usize>>,
}

impl<'a> Skeleton<'a> {
    /// `None` when it would be none, or when the text has characters that could be taken for marks.
    fn of(text: &'a str, segments: &[Segment]) -> Option<Skeleton<'a>> {
        let texts = segments.iter().filter(|segment| segment.kind == Kind::Text);
        // Tera may trim a text, so the white space around it stays.
        let inner = texts.map(|segment| {
            let whole = &text[segment.range.clone()];
            let start = segment.range.end - whole.trim_start().len();
            start..start + whole.trim().len()
        });
        let ranges: Vec<_> = inner.filter(|range| range.len() >= SHORTEST).collect();
        if ranges.is_empty() || ranges.len() > MARKS || text.bytes().any(|byte| byte >= MARK_BYTE) {
            return None;
        }
        let (mut marked, mut from) = (String::with_capacity(text.len()), 0);
        for (mark, range) in (FIRST_MARK..).zip(&ranges) {
            marked.push_str(&text[from..range.start]);
            marked.push(char::from_u32(mark)?);
            from = range.end;
        }
        marked.push_str(&text[from..]);
        Some(Skeleton { text, marked, ranges })
    }

    /// `None` when it does not parse, or a text lies where Tera sees none.
    fn parse(&self, name: &str) -> Option<Template> {
        let mut template = Template::new(name, None, &self.marked).ok()?;
        let mut found = vec![false; self.ranges.len()];
        self.fill(&mut template.ast, &mut found);
        template.blocks.values_mut().for_each(|block| self.fill(&mut block.body, &mut found));
        template.macros.values_mut().for_each(|one| self.fill(&mut one.body, &mut found));
        found.into_iter().all(|found| found).then_some(template)
    }

    fn fill(&self, nodes: &mut [Node], found: &mut [bool]) {
        for node in nodes {
            match node {
                Node::Text(text) => self.put_in(text, found),
                Node::FilterSection(_, section, _) => self.fill(&mut section.body, found),
                Node::Block(_, block, _) => self.fill(&mut block.body, found),
                Node::MacroDefinition(_, one, _) => self.fill(&mut one.body, found),
                Node::Forloop(_, forloop, _) => {
                    self.fill(&mut forloop.body, found);
                    forloop.empty_body.iter_mut().for_each(|body| self.fill(body, found));
                }
                Node::If(branches, _) => {
                    let bodies = branches.conditions.iter_mut().map(|(_, _, body)| body);
                    let otherwise = branches.otherwise.iter_mut().map(|(_, body)| body);
                    bodies.chain(otherwise).for_each(|body| self.fill(body, found));
                }
                Node::VariableBlock(..)
                | Node::Set(..)
                | Node::Include(..)
                | Node::Super
                | Node::Extends(..)
                | Node::ImportMacro(..)
                | Node::Raw(..)
                | Node::Break(_)
                | Node::Continue(_)
                | Node::Comment(..) => {}
            }
        }
    }

    fn put_in(&self, text: &mut String, found: &mut [bool]) {
        let Some((at, mark)) = text.char_indices().find(|(_, c)| u32::from(*c) >= FIRST_MARK)
        else {
            return;
        };
        let number = (u32::from(mark) - FIRST_MARK) as usize;
        found[number] = true;
        text.replace_range(at..at + mark.len_utf8(), &self.text[self.ranges[number].clone()]);
    }
}
