//! `exeat run` with `--mode observe` and `--suggest FILE`: what the policy would have refused is let
//! through and said, and the file that is written allows it.

use std::os::unix::fs::symlink;

use super::{
    launched::{EXEAT, Launch},
    *,
};

/// The lines of a policy, but for the one that says where it is from.
fn body(policy: &str) -> Vec<&str> {
    policy.lines().skip(1).collect()
}

fn diff(directory: &Path, old: &str, new: &str) -> Command {
    let mut command = bare(EXEAT, directory);
    command.args(["diff", old, new]);
    command
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_observed_in_a_jail_is_what_the_suggestion_allows() {
    use super::jailed::{Jail, users};

    if !curl_installed().await {
        return;
    }
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        let work = jail.workplace();
        let launch = &jail.launch;
        // By the proxy and without, allowed, not spoken about, and denied.
        let curl = "curl --silent --max-time 30 --cacert authority.pem";
        let script = format!(
            "{curl} {} && {curl} {} && {curl} --noproxy '*' {}; \
             {curl} -o /dev/null -w '%{{http_connect}}' {evil}; \
             {curl} --noproxy '*' {evil} || echo refused",
            launch.http("ok.test"),
            launch.https("no.test"),
            launch.http("no.test"),
            evil = launch.https("evil.test"),
        );
        let run_with = |requirements: &str, more: &[&str]| {
            let mut command = jail.bare(&jail.exeat);
            command.args(["run", "--requirements", requirements, "--settings", "exeat.toml"]);
            command.args(["--jail", "require"]).args(more).args(["--", "sh", "-c", &script]);
            run(command)
        };
        let observe = ["--mode", "observe", "--suggest", "work/suggested.toml"];
        let finished =
            run_with("requirements.toml", &[&observe[..], &["--audit", "work/audit"]].concat())
                .await;
        assert_eq!(finished.text(), "plaintlsplain403refused\n", "{user:?} {}", finished.stderr);
        assert_eq!(finished.code, Some(0));
        let says = |part: &str| finished.stderr.contains(part);
        let (plain, tls) = (launch.plain.port(), launch.tls.origin.port());
        assert!(says("exeat: OBSERVE MODE: "), "{}", finished.stderr);
        assert!(says("exeat: refused 2 requests:\n"), "{}", finished.stderr);
        let observed = "exeat: let through 2 requests, which the policy would have refused:\n";
        assert!(says(observed), "{}", finished.stderr);
        for port in [plain, tls] {
            let line = format!("     1  no.test:{port}  not_allowed (requirements.toml:3)\n");
            assert!(says(&line), "{}", finished.stderr);
        }
        assert!(says("exeat: work/suggested.toml allows what was let through"));
        assert!(!says("not recorded"), "{}", finished.stderr);

        // What `exeat suggest` makes of the audit.
        let suggested = fs::read_to_string(work.join("suggested.toml")).unwrap();
        let mut command = bare(EXEAT, launch.files.path());
        command.args(["suggest", "--audit", "work/audit"]);
        assert_eq!(body(&suggested), body(&run(command).await.succeeded().text()));
        assert!(suggested.contains(&format!("\"ok.test:{plain}\",")), "{suggested}");
        assert!(suggested.contains(&format!("#   evil.test:{tls}  denied  2 requests\n")));

        // Enforced, the policy of before lets none of it through, and the suggested one all.
        let finished = run_with("requirements.toml", &[]).await;
        assert_eq!(finished.text(), "plain403refused\n", "{user:?} {}", finished.stderr);
        assert!(finished.stderr.contains("refused 3 requests"), "{}", finished.stderr);
        let finished = run_with("work/suggested.toml", &[]).await;
        assert_eq!(finished.text(), "plaintlsplain403refused\n", "{user:?} {}", finished.stderr);
        assert!(!finished.stderr.contains("no.test"), "{}", finished.stderr);

        let changes = diff(launch.files.path(), "requirements.toml", "work/suggested.toml");
        let changes = run(changes).await;
        assert_eq!(changes.code, Some(1));
        for port in [plain, tls] {
            let gains = format!("  gains no.test:{port}: was not_allowed, is allowed by");
            assert!(changes.text().contains(&gains), "{}", changes.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_observing_it_is_what_was_needed() {
    if !curl_installed().await {
        return;
    }
    let launch = Launch::set().await;
    let ask = format!(
        "curl -s {}; curl -s -o /dev/null {}",
        launch.http("ok.test"),
        launch.http("no.test")
    );
    let mut command = launch.command();
    command.args(["--suggest", "suggested.toml", "--", "sh", "-c", &ask]);
    let finished = run(command).await.succeeded();
    assert_eq!(finished.text(), "plain");
    let port = launch.plain.port();
    let suggested = fs::read_to_string(launch.path("suggested.toml")).unwrap();
    assert!(suggested.starts_with("# What was let through, as `exeat run --suggest` saw it:\n"));
    let list: Vec<&str> = suggested.lines().filter(|line| line.starts_with("    \"")).collect();
    assert_eq!(list.len(), 1, "{suggested}");
    assert!(list[0].starts_with(&format!("    \"ok.test:{port}\", # 1 request;")), "{suggested}");
    assert!(suggested.contains(&format!("#   no.test:{port}  not_allowed  1 request\n")));
}

#[tokio::test]
async fn the_suggestion_is_written_where_it_was_to_be() {
    let launch = Launch::set().await;
    let path = |name: &str| launch.path(name);
    let run_script = |script: &str| {
        let mut command = launch.command();
        command.args(["--suggest", "place/suggested.toml", "--", "sh", "-c", script]);
        run(command)
    };
    let is_suggestion = |name: &str| {
        let is_file = fs::symlink_metadata(path(name)).unwrap().is_file();
        is_file && fs::read_to_string(path(name)).unwrap().starts_with("# What was let through")
    };
    let names = |name: &str| {
        let entries = fs::read_dir(path(name)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    fs::create_dir(path("place")).unwrap();
    fs::create_dir(path("other")).unwrap();
    fs::write(path("victim"), "own").unwrap();
    fs::write(path("place/suggested.toml"), "of before").unwrap();

    // In place of a link, not through it.
    run_script("cd place && rm suggested.toml && ln -s ../victim suggested.toml").await.succeeded();
    assert!(is_suggestion("place/suggested.toml"));
    run_script("ln -f victim place/suggested.toml").await.succeeded();
    assert!(is_suggestion("place/suggested.toml"));
    assert_eq!(fs::read_to_string(path("victim")).unwrap(), "own");

    // In the directory of the start, not in the one that goes by its name.
    run_script("rm place/* && mv place moved && ln -s other place").await.succeeded();
    assert!(is_suggestion("moved/suggested.toml"));
    assert_eq!(names("other"), Vec::<String>::new());

    // What cannot be replaced is said, without hiding how the program ended.
    fs::remove_file(path("place")).unwrap();
    fs::create_dir(path("place")).unwrap();
    for (script, code) in [("true", 69), ("exit 7", 7)] {
        let finished = run_script(&format!("mkdir place/suggested.toml; {script}")).await;
        assert_eq!(finished.code, Some(code), "{}", finished.stderr);
        let why = "exeat: cannot write place/suggested.toml: Is a directory";
        assert!(finished.stderr.contains(why), "{}", finished.stderr);
        assert_eq!(names("place"), ["suggested.toml"]);
        fs::remove_dir(path("place/suggested.toml")).unwrap();
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_had_ends_it() {
    let launch = Launch::set().await;
    symlink("requirements.toml", launch.path("link")).unwrap();
    for place in ["absent/file", "link", "/dev/null", "/", ".", "..", "exeat.toml/file"] {
        let mut command = launch.command();
        command.args(["--suggest", place, "--", "touch", "ran"]);
        let finished = run(command).await;
        assert_eq!(finished.code, Some(69), "{place}: {}", finished.stderr);
        let why = format!("exeat: cannot write {place}: ");
        assert!(finished.stderr.contains(&why), "{}", finished.stderr);
    }
    assert!(!launch.path("ran").exists());
}
