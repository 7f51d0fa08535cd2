//! What is wrong with a policy file: where, what, and the cure.
//!
//! Problems are values; nothing is printed here. A file's problems are always reported together.

use std::{cell::Cell, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

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
    /// An offset, and how many characters stand before it on its line.
    counted: Cell<(usize, usize)>,
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

    /// An error of the file as a whole.
    pub(crate) fn whole(error: &dyn std::error::Error) -> Self {
        Self::error(0..0, error.to_string())
    }

    pub(crate) fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, span, message: message.into(), help: None }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Draws the problem over its lines of the text, as rustc does.
    ///
    /// Lines too long for a screen are not shown; the place is named all the same.
    #[must_use]
    pub fn draw(&self, lines: &LineIndex<'_>, path: &str, styled: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let at = lines.position(self.span.start);
        let (start, excerpt) = lines.lines_of(&self.span);
        let group = if excerpt.len() <= MAX_EXCERPT {
            // A span may end inside a replacement character that stands for an invalid byte.
            let end = excerpt.ceil_char_boundary(self.span.end.saturating_sub(start));
            let begin = self.span.start.saturating_sub(start).min(end);
            let span = excerpt.floor_char_boundary(begin)..end;
            title.element(
                Snippet::source(excerpt)
                    .line_start(at.line)
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(span)),
            )
        } else {
            title.element(Origin::path(path).line(at.line).char_column(at.column))
        };
        let mut report = vec![group];
        if let Some(help) = &self.help {
            report.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
        }
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&report)
    }
}

/// Source text shown with one problem, in bytes.
const MAX_EXCERPT: usize = 2_000;

impl<'a> LineIndex<'a> {
    /// Indexes a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text, starts, counted: Cell::new((0, 0)) }
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset)
    }

    /// Line and column of a byte offset. Asked in rising order, it counts each character once,
    /// so that many problems on one long line are no trouble.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.line(offset);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let (from, before) = match self.counted.get() {
            (counted, characters) if (start..=offset).contains(&counted) => (counted, characters),
            _ => (start, 0),
        };
        let more = self.text.get(from..offset).unwrap_or("").chars().count();
        self.counted.set((offset, before + more));
        Position { line, column: before + more + 1 }
    }

    /// The whole lines that a span touches, and where they begin.
    fn lines_of(&self, span: &Range<usize>) -> (usize, &'a str) {
        let first = self.line(span.start);
        let last = self.line(span.end.max(span.start));
        let start = self.starts.get(first - 1).copied().unwrap_or(0);
        let end = self.starts.get(last).map_or(self.text.len(), |next| next - 1);
        (start, self.text.get(start..end).unwrap_or(""))
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
    fn positions_do_not_depend_on_the_order_they_are_asked_in() {
        let text = "b\u{fc}cher = 1\nb\u{fc} = 2\n";
        let index = LineIndex::new(text);
        let all = |offsets: &mut dyn Iterator<Item = usize>| -> Vec<Position> {
            offsets.map(|offset| index.position(offset)).collect()
        };
        let rising = all(&mut (0..=text.len()));
        let mut falling = all(&mut (0..=text.len()).rev());
        falling.reverse();
        assert_eq!(rising, falling);
    }

    #[test]
    fn long_lines_are_named_but_not_shown() {
        let text = "x".repeat(10_000);
        let drawn = Problem::error(5_000..5_001, "wrong").draw(&LineIndex::new(&text), "f", false);
        assert!(drawn.contains("f:1:5001") && drawn.len() < 200, "{drawn}");
    }

    #[test]
    fn drawn_with_line_caret_and_cure() {
        let text = "[experimental_network]\ndeny_domains = []\n";
        let problem = Problem::error(23..35, "unknown key `deny_domains`")
            .with_help("did you mean `denied_domains`?");
        let drawn = problem.draw(&LineIndex::new(text), "requirements.toml", false);
        assert!(drawn.contains("--> requirements.toml:2:1"), "{drawn}");
        assert!(drawn.contains("^^^^^^^^^^^^"), "{drawn}");
        assert!(drawn.contains("did you mean"), "{drawn}");
    }
}
