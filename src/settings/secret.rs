//! A text that nobody is shown: it may hold a password.

use std::{convert::Infallible, fmt, str::FromStr};

/// Shown as three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// A text with the userinfo of every URL in it replaced, byte for byte, so that places in it stay
/// where they are: for showing a settings file in which something is wrong.
#[must_use]
pub fn without_userinfo(text: &str) -> String {
    let mask = |line: &str| {
        let Some((before, rest)) = line.split_once("://") else { return line.to_owned() };
        let Some((userinfo, after)) = rest.rsplit_once('@') else { return line.to_owned() };
        format!("{before}://{}@{after}", "*".repeat(userinfo.len()))
    };
    text.split_inclusive('\n').map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_shown() {
        let secret = Secret::from("http://user:hidden@host".to_owned());
        assert_eq!(format!("{secret:?}"), "...");
        let text = "a = 1\nurl = \"http://ü:p@w/d@host:3128\" # x\nb = \"a@b\"\n";
        let shown = without_userinfo(text);
        assert_eq!(shown, "a = 1\nurl = \"http://********@host:3128\" # x\nb = \"a@b\"\n");
        assert_eq!(shown.len(), text.len());
    }
}
