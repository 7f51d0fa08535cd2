//! git over dumb HTTP: clones that work, and refusals that name the rule.

use super::*;

/// Makes a bare repository that dumb HTTP can serve; returns its commit.
async fn make_repository(stage: &Stage) -> String {
    let git = |arguments: &[&str]| {
        let mut command = stage.bare("git");
        command.env("GIT_CONFIG_NOSYSTEM", "1").args([
            "-c",
            "user.name=exeat",
            "-c",
            "user.email=exeat@ok.test",
        ]);
        command.args(arguments);
        command
    };
    fs::create_dir(stage.path("work")).unwrap();
    fs::create_dir(stage.path("www")).unwrap();
    fs::write(stage.path("work/blob"), noise(1_000_000)).unwrap();
    for arguments in [
        &["-C", "work", "init", "--quiet"][..],
        &["-C", "work", "add", "blob"],
        &["-C", "work", "commit", "--quiet", "--message", "packed"],
        &["clone", "--quiet", "--bare", "work", "www/repo.git"],
        &["-C", "www/repo.git", "repack", "-a", "-d", "--quiet"],
        // One commit in a pack, one in loose objects.
        &["-C", "work", "commit", "--quiet", "--allow-empty", "--message", "loose"],
        &["-C", "work", "push", "--quiet", "../www/repo.git", "HEAD"],
        &["-C", "www/repo.git", "update-server-info"],
    ] {
        run(git(arguments)).await.succeeded();
    }
    run(git(&["-C", "work", "rev-parse", "HEAD"])).await.succeeded().text()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones() {
    if !git_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let commit = make_repository(&stage).await;
    for (origin, url, to) in [
        (&stage.plain, stage.http("ok.test", "/repo.git"), "plain"),
        (&stage.tls.origin, stage.https("ok.test", "/repo.git"), "tls"),
    ] {
        origin.directory(stage.path("www"));
        let mut command = stage.git();
        command.args(["clone", "--quiet", &url, to]);
        run(command).await.succeeded();
        let mut command = stage.git();
        command.args(["-C", to, "rev-parse", "HEAD"]);
        assert_eq!(run(command).await.succeeded().text(), commit);
        let blob = fs::read(stage.path(to).join("blob")).unwrap();
        assert!(blob == noise(1_000_000), "{url} differs");

        let asked = asked(origin);
        assert_eq!(asked[0], "GET /repo.git/info/refs?service=git-upload-pack");
        assert!(asked.iter().any(|line| line.ends_with(".pack")), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_is_refused() {
    if !git_installed().await {
        return;
    }
    let stage = Stage::set().await;
    make_repository(&stage).await;
    for (origin, url, protocol) in [
        (&stage.plain, stage.http("no.test", "/repo.git"), "http"),
        (&stage.tls.origin, stage.https("no.test", "/repo.git"), "https_connect"),
    ] {
        origin.directory(stage.path("www"));
        let mut command = stage.git();
        command.args(["clone", &url, "refused"]);
        let finished = run(command).await.failed();
        assert!(finished.stderr.contains("403"), "{}", finished.stderr);
        assert!(!stage.path("refused").exists());
        stage.refused("no.test", protocol).await;
    }
    stage.assert_untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn git_verbose_shows_why_a_connect_is_refused() {
    if !git_installed().await {
        return;
    }
    let stage = Stage::set().await;
    let mut command = stage.git();
    command.env("GIT_CURL_VERBOSE", "1");
    command.args(["ls-remote", &stage.https("no.test", "/repo.git")]);
    let finished = run(command).await.failed();
    let status_line = format!("HTTP/1.1 403 {NOT_ALLOWED}");
    assert!(finished.stderr.contains(&status_line), "{}", finished.stderr);
    stage.assert_untouched();
}
