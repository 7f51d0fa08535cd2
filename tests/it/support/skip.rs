//! What a test does not do for want of something, said by name (`cargo test -- --nocapture` shows it).

/// For want of what `.ci/run` installs, or may do: with `EXEAT_TEST_CLIENTS=required` the test fails.
pub(crate) fn skip(what: &str) {
    let required = std::env::var("EXEAT_TEST_CLIENTS").is_ok_and(|value| value == "required");
    assert!(!required, "{what}");
    skip_optional(what);
}

/// For want of what it does not install: a kernel that is new enough, systemd, other libraries.
#[expect(clippy::print_stderr, reason = "a test says what it did not do")]
pub(crate) fn skip_optional(what: &str) {
    eprintln!("skipped: {what}");
}
