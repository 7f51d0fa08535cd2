//! Names under which anybody can get a name: top-level domains, and what providers hand out.
//!
//! The list is compiled in. It can be asked about a name, and does not tell what lies below one.

/// A top-level domain, or a name under which a provider hands out names (`github.io`).
pub(super) fn is_public_suffix(name: &str) -> bool {
    let suffix = psl::suffix(name.as_bytes());
    suffix.is_some_and(|suffix| suffix.is_known() && suffix == name.as_bytes())
}

/// Whether names below `base` may belong to others than `base` does: it is a public suffix or a
/// top-level domain that nobody knows, or one lies below it, as far as `below` (names below it) and
/// a look at usual labels show.
pub(super) fn may_be_shared<'n>(base: &str, below: impl IntoIterator<Item = &'n str>) -> bool {
    let owner = psl::domain(base.as_bytes());
    let Some(owner) = owner.map(|owner| owner.as_bytes()) else { return true };
    let has_other_owner =
        |name: &str| psl::domain(name.as_bytes()).is_none_or(|domain| domain.as_bytes() != owner);
    below.into_iter().any(has_other_owner)
        || USUAL_BELOW.iter().any(|label| has_other_owner(&format!("x.{label}.{base}")))
}

/// Labels of public suffixes below the names of those who hand them out.
const USUAL_BELOW: &[&str] = &[
    "a",
    "api",
    "app",
    "apps",
    "azurewebsites",
    "blob.core",
    "blob",
    "c",
    "cdn",
    "cloud",
    "compute",
    "core",
    "dev",
    "elb",
    "eu",
    "eu-west-1",
    "execute-api.us-east-1",
    "freetls",
    "global.ssl",
    "host",
    "hosting",
    "lambda-url.us-east-1",
    "nyc3",
    "pages",
    "r",
    "run",
    "s3",
    "s3-website",
    "sites",
    "static",
    "storage",
    "us",
    "us-east-1",
    "user",
    "web",
    "www",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_below() {
        for (base, expected) in [
            ("example.com", false),
            ("cdn.example.co.uk", false),
            ("com", true),
            ("co.uk", true),
            ("github.io", true),
            ("someone.github.io", false),
            ("s3.amazonaws.com", true),
            ("amazonaws.com", true),
            ("googleapis.com", true),
            ("core.windows.net", true),
            ("digitaloceanspaces.com", true),
            ("test", true),
            ("a.test", false),
        ] {
            assert_eq!(may_be_shared(base, []), expected, "{base}");
        }
        assert!(may_be_shared("example.com", ["a.example.com", "b.other.com"]));
    }
}
