//! Lines and field lines (RFC 9112 §2.2, §5): CRLF ends them, and nothing else does.

use super::Malformed;

/// Lines between CRLFs; a carriage return or line feed on its own is an error.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

/// Where a head ends, if it is all there; lines are looked at from `from` on.
///
/// # Errors
///
/// A line ends in something other than CRLF, which must be refused at once: the end of such a head
/// would never be found.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Malformed> {
    let mut line_start = from;
    loop {
        let rest = bytes.get(line_start..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Ok(None);
        };
        match rest.get(length..) {
            Some([b'\r', b'\n', ..]) => line_start += length + 2,
            Some([b'\r']) => return Ok(None),
            Some(_) | None => return Err(Malformed::LineEnd),
        }
        if length == 0 {
            return Ok(Some(line_start));
        }
    }
}

/// Where the last unfinished line begins: from there the search for the end goes on.
#[must_use]
pub fn last_line(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// The name and the trimmed value of a field line (RFC 9112 §5).
///
/// # Errors
///
/// It continues another line, has no token for a name, or holds a control character.
pub fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::Field)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if !is_token(name) {
        return Err(Malformed::Field);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed::Control);
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 §5.6.2.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(legal)
}

impl<'a> Lines<'a> {
    /// The lines of a head, its empty line included.
    ///
    /// # Errors
    ///
    /// It does not end in an empty line.
    pub fn of_head(head: &'a [u8]) -> Result<Self, Malformed> {
        let rest = head.strip_suffix(b"\r\n\r\n").ok_or(Malformed::LineEnd)?;
        Ok(Self { rest: Some(rest) })
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            return Some(Ok(rest));
        };
        let (line, end) = rest.split_at(at);
        let Some(after) = end.strip_prefix(b"\r\n") else { return Some(Err(Malformed::LineEnd)) };
        self.rest = Some(after);
        Some(Ok(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_looked_at_as_they_come() {
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost", 0), Ok(None));
        assert_eq!(last_line(b"GET / HTTP/1.1\r\nHost"), 16);
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", 16), Ok(Some(27)));
        assert_eq!(find_end(b"GET / HTTP/1.1\nHost", 0), Err(Malformed::LineEnd));
        assert_eq!(find_end(b"\n", 0), Err(Malformed::LineEnd));
        assert_eq!(find_end(b"GET / HTTP/1.1\rHost", 0), Err(Malformed::LineEnd));
        assert_eq!(find_end(b"GET / HTTP/1.1\r", 0), Ok(None));
    }
}
