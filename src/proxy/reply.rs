//! Answers of the proxy's own, as bytes.

use std::{borrow::Cow, io::Write as _, time::SystemTime};

use http::StatusCode;

use super::{
    fields,
    rewrite::{Manners, write_persistence},
};
use crate::http1::Version;

/// What is answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// None: what the status means.
    pub(super) phrase: Option<String>,
    pub(super) fields: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) body: String,
}

/// To whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipient {
    pub(super) manners: Manners,
    /// It asked with HEAD, and gets no body.
    pub(super) wants_no_body: bool,
}

impl Recipient {
    /// Of an answer to what was not understood, after which the connection is closed.
    pub(super) const UNKNOWN: Self = Self {
        manners: Manners { version: Version::Http11, persists: false },
        wants_no_body: false,
    };
}

impl Reply {
    /// A success, with a body in JSON or without one.
    pub(super) fn ok(body: String) -> Self {
        let is_json = !body.is_empty();
        let json = || ("content-type", Cow::Borrowed("application/json"));
        Self {
            status: StatusCode::OK,
            phrase: None,
            fields: is_json.then(json).into_iter().collect(),
            body,
        }
    }

    /// The whole answer. `now`: when it is given, if that is known.
    pub(super) fn bytes(&self, to: Recipient, now: Option<SystemTime>) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let phrase = self.phrase.as_deref().or_else(|| self.status.canonical_reason());
        write!(out, "HTTP/1.1 {} {}\r\n", self.status.as_u16(), phrase.unwrap_or("")).ok();
        for (name, value) in &self.fields {
            fields::write(&mut out, name.as_bytes(), value.as_bytes());
        }
        write_persistence(&mut out, to.manners);
        write!(out, "content-length: {}\r\n", self.body.len()).ok();
        if let Some(now) = now {
            write!(out, "date: {}\r\n", httpdate::HttpDate::from(now)).ok();
        }
        out.extend_from_slice(b"\r\n");
        if !to.wants_no_body {
            out.extend_from_slice(self.body.as_bytes());
        }
        out
    }
}
