//! A second, strict reading of what reaches an origin: requests that no two servers read apart.

use exeat::net::{Authority, Port};
use httparse::{EMPTY_HEADER, Header, ParserConfig, Request, Response, Status};

/// How the end of a body is found.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Chunked,
    Length(usize),
}

/// Reads requests for one origin, one after the other, and says how many are whole. The last may
/// be unfinished.
///
/// # Errors
///
/// What the bytes are that is no request for it, or one that a server may read otherwise.
pub(crate) fn requests(bytes: &[u8], origin: &Authority) -> Result<usize, String> {
    let (mut rest, mut count) = (bytes, 0);
    while !rest.is_empty() {
        let mut fields = [EMPTY_HEADER; 128];
        let mut request = Request::new(&mut fields);
        let head = match request.parse(rest) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return Ok(count),
            Err(error) => return Err(format!("no request: {error}")),
        };
        check_head(&request, &rest[..head], origin)?;
        let framing = framing(request.headers)?;
        let Some(body) = body(&rest[head..], framing)? else { return Ok(count) };
        rest = &rest[head + body..];
        count += 1;
    }
    Ok(count)
}

/// Whether these bytes of a tunnel talk HTTP to another host than its own, in whichever request.
pub(crate) fn names_another_host(bytes: &[u8], origin: &Authority) -> bool {
    let mut rest = bytes;
    loop {
        let mut fields = [EMPTY_HEADER; 128];
        let mut request = Request::new(&mut fields);
        let mut lenient = ParserConfig::default();
        lenient.allow_multiple_spaces_in_request_line_delimiters(true);
        lenient.allow_space_before_first_header_name(true);
        lenient.ignore_invalid_headers_in_requests(true);
        let Ok(Status::Complete(head)) = lenient.parse_request(&mut request, rest) else {
            return false;
        };
        let is_other = |host| {
            Authority::parse_or(host, Port::HTTP).map(|at| at.host).as_ref() != Ok(&origin.host)
        };
        if values(request.headers, "host").any(is_other) {
            return true;
        }
        let body = framing(request.headers).and_then(|framing| body(&rest[head..], framing));
        match body {
            Ok(Some(body)) => rest = &rest[head + body..],
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Checks that nothing follows an answer that says it is the last.
///
/// # Errors
///
/// What follows, or what is no answer.
pub(crate) fn answers(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut fields = [EMPTY_HEADER; 128];
        let mut answer = Response::new(&mut fields);
        let head = match answer.parse(rest) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return Ok(()),
            Err(error) => return Err(format!("no answer: {error}")),
        };
        let closes = values(answer.headers, "connection").any(|value| value == b"close");
        let has_framing = answer.headers.iter().any(|field| {
            ["content-length", "transfer-encoding"].contains(&field.name.to_lowercase().as_str())
        });
        // A tunnel, an answer to HEAD or one that ends with the connection: nobody knows its end.
        if !has_framing || (answer.code == Some(200) && !closes) {
            return Ok(());
        }
        let Some(body) = body(&rest[head..], framing(answer.headers)?)? else { return Ok(()) };
        rest = &rest[head + body..];
        if closes && !rest.is_empty() {
            return Err(format!("an answer after the last: {}", rest.escape_ascii()));
        }
    }
    Ok(())
}

fn check_head(request: &Request<'_, '_>, head: &[u8], origin: &Authority) -> Result<(), String> {
    let lone = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        byte => *byte == 0,
    };
    if head.iter().enumerate().any(lone) {
        return Err("a lone CR or LF, or a NUL".into());
    }
    let target = request.path.unwrap_or_default();
    if request.method == Some("CONNECT") || !(target.starts_with('/') || target == "*") {
        return Err(format!("target {target:?}"));
    }
    let mut hosts = values(request.headers, "host");
    let host = hosts.next().map(|host| Authority::parse_or(host, Port::HTTP));
    if host.as_ref().and_then(|host| host.as_ref().ok()) != Some(origin) || hosts.next().is_some() {
        return Err(format!("Host is {host:?}"));
    }
    if !values(request.headers, "via").any(|via| via.ends_with(b" exeat")) {
        return Err("not by this proxy".into());
    }
    let leaks = |field: &&Header<'_>| field.name.to_lowercase().starts_with("proxy-");
    match request.headers.iter().find(leaks) {
        Some(field) => Err(format!("{} leaves", field.name)),
        None => Ok(()),
    }
}

fn values<'h>(fields: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

fn framing(fields: &[Header<'_>]) -> Result<Framing, String> {
    let lengths: Vec<_> = values(fields, "content-length").collect();
    let codings: Vec<_> = values(fields, "transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([length], []) => std::str::from_utf8(length)
            .ok()
            .filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|length| length.parse().ok())
            .map(Framing::Length)
            .ok_or_else(|| format!("length {}", length.escape_ascii())),
        _ => Err(format!("{} lengths and {} codings", lengths.len(), codings.len())),
    }
}

/// How long the body is; none: longer than what there is.
fn body(bytes: &[u8], framing: Framing) -> Result<Option<usize>, String> {
    match framing {
        Framing::Length(length) => Ok((length <= bytes.len()).then_some(length)),
        Framing::Chunked => chunked(bytes),
    }
}

fn chunked(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&rest[..end]).unwrap_or("?");
        let hex = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(line, 16).ok().filter(|_| hex);
        let Some(size) = size else { return Err(format!("chunk {line:?}")) };
        let after = at + end + 2 + size;
        match bytes.get(after..after + 2) {
            None => return Ok(None),
            Some(b"\r\n") if size == 0 => return Ok(Some(after + 2)),
            Some(b"\r\n") => at = after + 2,
            Some(other) => return Err(format!("{} after a chunk", other.escape_ascii())),
        }
    }
}
