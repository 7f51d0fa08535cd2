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

/// The text of a settings file with all that may be credentials replaced, byte for byte, so that
/// places in it stay where they are: for showing a file in which something is wrong, which may be
/// anything. Of what belongs to the parent proxy only keys are left; elsewhere the userinfo of URLs.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let mut in_parent = false;
    let shown = |line: &str| {
        let start = line.trim_start();
        if start.starts_with('[') {
            in_parent = start.contains("parent");
            return line.to_owned();
        }
        let (line, end) = line.split_at(line.trim_end_matches(['\r', '\n']).len());
        // Written with dots, in one line, or under a name that was misspelled.
        let key = line.split('=').next().unwrap_or_default();
        let masked = match in_parent || key.contains("parent") || key.contains("url") {
            true => mask_value(line),
            false => mask_userinfo(line),
        };
        masked + end
    };
    text.split_inclusive('\n').map(shown).collect()
}

/// All behind the key, or all, if there is none.
fn mask_value(line: &str) -> String {
    let key = line.find('=').map_or(0, |at| at + 1);
    let (key, value) = line.split_at(key);
    let stars = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
    key.to_owned() + &value.chars().map(stars).collect::<String>()
}

fn mask_userinfo(line: &str) -> String {
    let Some((before, rest)) = line.split_once("://") else { return line.to_owned() };
    let Some((userinfo, after)) = rest.rsplit_once('@') else { return line.to_owned() };
    format!("{before}://{}@{after}", "*".repeat(userinfo.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_shown() {
        let secret = Secret::from("http://user:hidden@host".to_owned());
        assert_eq!(format!("{secret:?}"), "...");
        let text = "a = 1\nx = \"http://ü:p@w/d@host:3128\" # x\nb = \"a@b\"\n";
        let shown = without_credentials(text);
        assert_eq!(shown, "a = 1\nx = \"http://********@host:3128\" # x\nb = \"a@b\"\n");
        assert_eq!(shown.len(), text.len());
    }

    #[test]
    fn nor_where_the_file_is_broken() {
        for parent in [
            "[parent]\nurl = \"u:hidden@h:3128\" x\n",
            "[parent]\nurls = \"u:hidden@h:3128\"\n",
            "[parent]\nurl = \"http://u:hidden\n",
            "[ parent ]\nurl = \"\"\"http://u:\nhidden@h:3128\"\"\" x\n",
            "[paren]\nurl = \"http:\\u002f/u:hidden@h:1\" x\n",
            "parent.url = \"u:hidden@h\" x\n",
            "parent = { url = \"u:hidden@h\" x\n",
        ] {
            let text = format!("[limits]\ntunnels = 5\n{parent}[dns]\ncache = 7\n");
            let shown = without_credentials(&text);
            assert!(!shown.contains("hidden"), "{shown}");
            assert!(shown.contains("tunnels = 5\n") && shown.contains("cache = 7\n"), "{shown}");
            assert_eq!(shown.len(), text.len());
        }
    }
}
