//! The names that proxies allow: the origins', and made-up ones around it.

/// Names beside that host, which stands in the middle; exactly so many, all different.
pub(crate) fn around(host: &str, count: u32) -> Vec<String> {
    let mut names: Vec<String> = (1..count).map(made_up).collect();
    names.insert(names.len() / 2, host.to_owned());
    names
}

/// Two or three labels; the number makes it another than the others.
fn made_up(number: u32) -> String {
    const FIRST: [&str; 8] = ["api", "cdn", "registry", "www", "static", "git", "mirror", "files"];
    const SECOND: [&str; 5] = ["cloud", "packages", "build", "vendor", "data"];
    const LAST: [&str; 6] = ["com", "org", "net", "io", "dev", "co.uk"];
    let of = |words: &[&'static str], by: u32| {
        let place = usize::try_from(number / by).unwrap_or(0) % words.len();
        words.get(place).copied().unwrap_or_default()
    };
    let [first, second, last] = [of(&FIRST, 1), of(&SECOND, 8), of(&LAST, 3)];
    format!("{first}.{second}{number:x}.{last}")
}
