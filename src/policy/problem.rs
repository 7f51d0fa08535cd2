//! What is wrong with a policy file: where, what, and the cure.
//!
//! Problems are values; nothing is printed here. A file's problems are always reported together.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted, and someone should look.
    Warning,
}

/// One thing wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The offending bytes of the file.
    pub span: Range<usize>,
    /// What is wrong: lower case, no final period, the offending text in backticks.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// A place in a text, as editors count: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where the lines of a text begin, so that many offsets can be turned into lines cheaply.
#[derive(Debug)]
pub struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl Severity {
    /// `error` or `warning`, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Problem {
    pub(crate) fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), help: None }
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, span, message: message.into(), help: None }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Draws the problem over its source text, as rustc does.
    #[must_use]
    pub fn draw(&self, text: &str, path: &str, styled: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        // A span may end inside a replacement character that stands for an invalid byte.
        let end = text.ceil_char_boundary(self.span.end);
        let span = text.floor_char_boundary(self.span.start.min(end))..end;
        let snippet =
            Snippet::source(text).path(path).annotation(AnnotationKind::Primary.span(span));
        let mut report = vec![level.primary_title(self.message.as_str()).element(snippet)];
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&report)
    }
}

impl<'a> LineIndex<'a> {
    /// Indexes a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset)
    }

    /// Line and column of a byte offset.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        Position { line, column: before.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let index = LineIndex::new("a\nb\u{fc}cher = 1\n");
        assert_eq!(index.position(0), Position { line: 1, column: 1 });
        assert_eq!(index.position(2), Position { line: 2, column: 1 });
        assert_eq!(index.position(10), Position { line: 2, column: 8 });
        assert_eq!(index.line(15), 3);
    }

    #[test]
    fn drawn_with_line_caret_and_cure() {
        let text = "[experimental_network]\ndeny_domains = []\n";
        let problem = Problem::error(23..35, "unknown key `deny_domains`")
            .with_help("did you mean `denied_domains`?");
        let drawn = problem.draw(text, "requirements.toml", false);
        assert!(drawn.contains("--> requirements.toml:2:1"), "{drawn}");
        assert!(drawn.contains("^^^^^^^^^^^^"), "{drawn}");
        assert!(drawn.contains("did you mean"), "{drawn}");
    }
}
